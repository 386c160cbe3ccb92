//! Transfers that succeed, or fail for single files only.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::harness::{Running, Scene, finish, keygen, zssp};

/// Contents that do not repeat; different for each name.
fn noise(name: &str, size: usize) -> Vec<u8> {
    let mut contents = vec![0; size];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut contents);
    contents
}

/// Everything below a folder: for each path its contents, or nothing for a folder.
fn tree(top: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut unread = vec![top.to_path_buf()];
    while let Some(folder) = unread.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let contents = if path.is_dir() { None } else { Some(fs::read(&path).unwrap()) };
            if contents.is_none() {
                unread.push(path.clone());
            }
            found.insert(path.strip_prefix(top).unwrap().to_path_buf(), contents);
        }
    }
    found
}

#[test]
fn a_large_file_arrives_whole_with_its_mode_and_time() {
    let scene = Scene::new();
    let path = scene.path("large.bin");
    let contents = noise("large", 200 << 20);
    fs::write(&path, &contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();

    let receiver = scene.receive(&["--once"]);
    let sent = finish(&mut scene.send(&receiver, &[&path]));
    let received = receiver.finish();
    assert!(sent.success() && received.success(), "{sent:#?} {received:#?}");
    for (summary, word) in [(&sent.stdout, "sent"), (&received.stdout, "received")] {
        assert!(summary.contains(&format!("{word} 1 file, 200.00 MiB in")), "{summary}");
        assert!(summary.contains("/s)") && summary.contains("MLKEM1024"), "{summary}");
    }
    let copy = scene.inbox().join("large.bin");
    assert!(fs::read(&copy).unwrap() == contents, "the contents differ");
    let metadata = fs::metadata(&copy).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o700, 0o700);
    assert_eq!(metadata.modified().unwrap(), time);
    assert_eq!(scene.arrived(), ["large.bin"]);
}

#[test]
fn a_folder_with_odd_names_arrives_as_it_is() {
    let scene = Scene::new();
    let top = scene.path("odd folder");
    let deep: PathBuf = (0..60).map(|level| format!("level {level}")).collect();
    fs::create_dir_all(top.join(&deep)).unwrap();
    fs::create_dir(top.join("empty folder")).unwrap();
    fs::create_dir(top.join("...")).unwrap();
    let names: [&[u8]; 8] = [
        b"-rf",
        b"two words",
        "Gr\u{fc}\u{df}e \u{1f980}".as_bytes(),
        b"not \xff\xfe UTF-8",
        b"back\\slash",
        b"'quotes\" $HOME `id`",
        b"*?",
        &[b'x'; 255],
    ];
    for name in names {
        fs::write(top.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(top.join("empty"), "").unwrap();
    fs::write(top.join(&deep).join("treasure"), noise("treasure", 300_000)).unwrap();
    let script = top.join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", top.join("a link")).unwrap();
    let dash = scene.path("-dash");
    fs::write(&dash, "dash").unwrap();

    let receiver = scene.receive(&["--once", "-v"]);
    let sent = finish(scene.send(&receiver, &[&top, Path::new("-dash")]).current_dir(scene.path("")));
    let received = receiver.finish();
    assert!(sent.success() && received.success(), "{sent:#?} {received:#?}");
    assert!(sent.stderr.contains("a link is left out: a symbolic link"), "{sent:#?}");
    assert!(!received.stderr.contains('\x1b'), "names have no power over the terminal: {received:#?}");

    fs::remove_file(top.join("a link")).unwrap();
    assert!(tree(&scene.inbox().join("odd folder")) == tree(&top), "the trees differ");
    assert_eq!(scene.arrived(), ["-dash", "odd folder"]);
    let mode = fs::metadata(scene.inbox().join("odd folder/script")).unwrap().permissions().mode();
    assert_eq!(mode & 0o700, 0o700);
}

#[test]
fn several_files_and_folders_go_at_once_and_a_name_with_controls_is_left_out() {
    let scene = Scene::new();
    let top = scene.path("top");
    fs::create_dir_all(top.join("sub")).unwrap();
    for (number, size) in [0, 1, 32 << 10, (32 << 10) + 1, 5 << 20, 9 << 20, 9 << 20].into_iter().enumerate()
    {
        fs::write(scene.path(format!("file {number}")), noise(&number.to_string(), size)).unwrap();
    }
    fs::write(top.join("sub/deep"), noise("deep", 1 << 20)).unwrap();
    let files: Vec<_> = (0..7).map(|number| scene.path(format!("file {number}"))).collect();
    let mut paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    paths.push(&top);

    let receiver = scene.receive(&[]);
    let sent = finish(&mut scene.send(&receiver, &paths));
    assert!(sent.success() && sent.stdout.contains("sent 8 files, 24.06 MiB in"), "{sent:#?}");
    for file in &files {
        let copy = scene.inbox().join(file.file_name().unwrap());
        assert!(fs::read(copy).unwrap() == fs::read(file).unwrap(), "{file:?} differs");
    }
    assert!(tree(&scene.inbox().join("top")) == tree(&top), "the trees differ");

    // Again: everything is there, and of the large ones nothing is sent.
    let sent = finish(&mut scene.send(&receiver, &paths));
    assert!(sent.success(), "{sent:#?}");
    assert!(sent.stdout.contains("of which 24.03 MiB had arrived before"), "{sent:#?}");

    fs::write(top.join("new\nline"), "").unwrap();
    let sent = finish(&mut scene.send(&receiver, &[&top]));
    sent.failed_with(1, "error: of the files and folders, 1 could not be sent at all");
    // Also where nothing but errors is to be said.
    let mut quiet = zssp(["send", "-q", "--to", &format!("{}@{}", scene.bob, receiver.address), "--key"]);
    let sent = finish(quiet.arg(scene.path("alice.key")).arg(&top));
    sent.failed_with(1, "new\\nline is left out: the name contains a control character");
    assert!(receiver.stop().success());
}

#[test]
fn two_senders_are_served_at_once_and_many_small_files_are_no_trouble() {
    let scene = Scene::new();
    let carol = keygen(&scene.path("carol.key"));
    for folder in ["from-alice", "from-carol"] {
        fs::create_dir(scene.path(folder)).unwrap();
        for number in 0..1000 {
            let name = format!("{folder}/{number}");
            fs::write(scene.path(&name), noise(&name, number * 13 % 3000)).unwrap();
        }
        fs::write(scene.path(folder).join("large"), noise(folder, 20 << 20)).unwrap();
    }
    let receiver = scene.receive(&["--allow", &carol]);
    let to = format!("{}@{}", scene.bob, receiver.address);
    let senders = ["alice", "carol"].map(|name| {
        let mut command = zssp(["send", "--to", &to, "--key"]);
        Running::start(command.arg(scene.path(format!("{name}.key"))).arg(scene.path(format!("from-{name}"))))
    });
    for sender in senders {
        let sent = sender.finish();
        assert!(sent.success() && sent.stdout.contains("sent 1001 files"), "{sent:#?}");
    }
    let received = receiver.stop();
    assert_eq!(received.stdout.matches("received 1001 files").count(), 2, "{received:#?}");
    assert!(received.success(), "an idle receiver ends well: {received:#?}");
    for folder in ["from-alice", "from-carol"] {
        assert!(tree(&scene.inbox().join(folder)) == tree(&scene.path(folder)), "{folder} differs");
    }
}

#[test]
fn a_file_that_exists_is_kept_unless_overwriting_was_asked_for() {
    let scene = Scene::new();
    fs::write(scene.path("a"), "new").unwrap();
    fs::write(scene.path("b"), noise("b", 300_000)).unwrap();
    fs::write(scene.inbox().join("a"), "old").unwrap();
    let paths = [scene.path("a"), scene.path("b")];
    let paths = [paths[0].as_path(), &paths[1]];

    let receiver = scene.receive(&["--once"]);
    let sent = finish(&mut scene.send(&receiver, &paths));
    sent.failed_with(1, "a: the receiver already has something of this name");
    assert!(sent.stdout.contains("sent 1 file"), "the other one arrived: {sent:#?}");
    receiver.finish().failed_with(1, "not taken");
    assert_eq!(fs::read(scene.inbox().join("a")).unwrap(), b"old");
    assert_eq!(scene.arrived(), ["a", "b"]);

    let receiver = scene.receive(&["--once", "--overwrite", "--flush"]);
    let sent = finish(&mut scene.send(&receiver, &paths));
    let received = receiver.finish();
    assert!(sent.success() && received.success(), "{sent:#?} {received:#?}");
    assert_eq!(fs::read(scene.inbox().join("a")).unwrap(), b"new");
    assert_eq!(scene.arrived(), ["a", "b"]);
}

#[test]
fn anybody_may_send_where_that_was_asked_for() {
    let scene = Scene::new();
    fs::write(scene.path("a"), "hello").unwrap();
    let receiver = crate::harness::Receiver::start(&mut scene.receive_command(&["--allow", "any", "--once"]));
    let to = format!("{}@{}", scene.bob, receiver.address);
    let mut send = zssp(["send", "-q", "--to", &to, "--key"]);
    let sent = finish(send.arg(scene.path("alice.key")).arg(scene.path("a")));
    let received = receiver.finish();
    assert!(sent.success() && received.success(), "{sent:#?} {received:#?}");
    assert_eq!((sent.stdout.as_str(), sent.stderr.as_str()), ("", ""), "quiet is quiet");
    assert!(received.stderr.contains("warning:") && received.stderr.contains("--allow any"), "{received:#?}");
}
