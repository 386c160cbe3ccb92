//! What is saved as a recorded session is loaded again, from a directory of any content.

use std::fs;
use std::path::Path;

use zssp_sim::vectors;

#[test]
fn saved_scenarios_are_loaded_sorted_by_file_name() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("saved_scenarios");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("README.md"), "not a scenario").unwrap();

    let mut scenario = vectors::load_dir(&vectors::directory()).unwrap().swap_remove(0);
    "ml-kem-1024".clone_into(&mut scenario.variant);
    for name in ["second", "first"] {
        name.clone_into(&mut scenario.name);
        let path = scenario.save(&directory).unwrap();
        assert_eq!(path, directory.join(format!("ml-kem-1024.{name}.json")));
    }

    let loaded = vectors::load_dir(&directory).unwrap();
    assert_eq!(loaded.iter().map(|scenario| &scenario.name).collect::<Vec<_>>(), ["first", "second"]);
    assert!(loaded[0] == scenario, "the last one saved was the first");
}
