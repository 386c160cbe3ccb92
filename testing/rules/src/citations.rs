use crate::{
    document::Id,
    tree::{Place, SourceFile, Tree},
};

const MARK: &str = "//=";

/// What a citation shows about its requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The code that fulfils it.
    Code,
    /// Nothing: an example, a benchmark or a fuzz target.
    Neither,
    /// The test that proves it.
    Test,
}

/// One citation in the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Citation {
    /// The requirement it names.
    pub id: Id,
    /// What it shows.
    pub role: Role,
    /// Where it stands.
    pub place: Place,
}

/// Every citation of the repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Citations {
    /// The well-formed ones, in the order of the files.
    pub found: Vec<Citation>,
    /// Comments that begin like a citation and are none.
    pub malformed: Vec<Place>,
}

impl Citations {
    /// Collects the citations under `crates`, `testing`, `bench` and `fuzz`.
    #[must_use]
    pub fn scan(tree: &Tree) -> Self {
        let mut citations = Self::default();
        tree.rust().for_each(|file| citations.read(file));
        citations
    }

    /// Whether the requirement is cited in this role.
    #[must_use]
    pub fn has(&self, id: &Id, role: Role) -> bool {
        self.found.iter().any(|citation| citation.id == *id && citation.role == role)
    }

    fn read(&mut self, file: &SourceFile) {
        let mut role = role_of(&file.path);
        for (line, content) in (1..).zip(file.text.lines()) {
            let content = content.trim();
            if role == Role::Code && is_test_attribute(content) {
                role = Role::Test;
            }
            let Some(words) = content.strip_prefix(MARK) else { continue };
            let place = Place { path: file.path.clone(), line };
            match cited(words) {
                Some(id) => self.found.push(Citation { id, role, place }),
                None => self.malformed.push(place),
            }
        }
    }
}

/// The id of ` ZSSP-RPL-02  some words`.
fn cited(words: &str) -> Option<Id> {
    let (name, summary) = words.strip_prefix(' ')?.split_once(' ')?;
    if summary.trim().is_empty() { None } else { Id::parse(name) }
}

fn role_of(path: &str) -> Role {
    let mut parts = path.split('/');
    match parts.next() {
        Some("testing") => Role::Test,
        Some("crates") => {
            let inside: Vec<_> = parts.skip(1).collect();
            if inside.iter().any(|part| matches!(*part, "tests" | "tests.rs")) {
                Role::Test
            } else if inside.first() == Some(&"src") {
                Role::Code
            } else {
                Role::Neither
            }
        }
        _ => Role::Neither,
    }
}

/// `#[cfg(test)]` and its compositions such as `#[cfg(all(test, loom))]`, but not `#[cfg(not(test))]`.
fn is_test_attribute(content: &str) -> bool {
    content.strip_prefix("#[cfg(").is_some_and(|condition| {
        !condition.contains("not(test)")
            && condition.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "test")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(path: &str, text: &str) -> Vec<Role> {
        Citations::scan(&Tree::of([(path, text)])).found.into_iter().map(|citation| citation.role).collect()
    }

    #[test]
    fn the_place_decides_what_a_citation_shows() {
        let cite = "//= ZSSP-AA-01  words\n";
        for (path, role) in [
            ("crates/a/src/lib.rs", Role::Code),
            ("crates/a/src/deep/down.rs", Role::Code),
            ("crates/a/src/deep/tests.rs", Role::Test),
            ("crates/a/src/tests/one.rs", Role::Test),
            ("crates/a/tests/one.rs", Role::Test),
            ("testing/sim/src/lib.rs", Role::Test),
            ("crates/a/benches/one.rs", Role::Neither),
            ("crates/a/examples/one.rs", Role::Neither),
            ("bench/src/main.rs", Role::Neither),
            ("fuzz/fuzz_targets/one.rs", Role::Neither),
        ] {
            assert_eq!(roles(path, cite), [role], "{path}");
        }
    }

    #[test]
    fn from_the_first_test_attribute_on_a_file_is_test() {
        let cite = "    //= ZSSP-AA-01  words\n";
        for (attribute, after) in [
            ("#[cfg(test)]", Role::Test),
            ("#[cfg(all(test, loom))]", Role::Test),
            ("    #[cfg(any(fuzzing, test))]", Role::Test),
            ("#[cfg(not(test))]", Role::Code),
            ("#[cfg(feature = \"tested\")]", Role::Code),
        ] {
            let text = format!("{cite}{attribute}\n{cite}");
            assert_eq!(roles("crates/a/src/lib.rs", &text), [Role::Code, after], "{attribute}");
        }
    }

    #[test]
    fn a_citation_names_one_id_and_says_what_it_is_about() {
        for wrong in [
            "//= ZSSP-AA-01\n",
            "//= ZSSP-AA-01 \n",
            "//= ZSSP-AA-01   \n",
            "//= ZSSP-AA-01: words\n",
            "//=ZSSP-AA-01  words\n",
            "//= ZSSP-AA-1  words\n",
            "//= words\n",
            "//= ZSSP-AA-01, ZSSP-AA-02  words\n",
        ] {
            let scanned = Citations::scan(&Tree::of([("crates/a/src/lib.rs", wrong)]));
            assert_eq!((scanned.found.len(), scanned.malformed.len()), (0, 1), "{wrong}");
        }
    }

    #[test]
    fn other_comments_and_code_are_no_citations() {
        let text = "// = ZSSP-AA-01  words\nlet x = 1; // ZSSP-AA-01\nlet s = \"//= ZSSP-AA-01  words\";\n";
        assert_eq!(Citations::scan(&Tree::of([("crates/a/src/lib.rs", text)])), Citations::default());
    }

    #[test]
    fn the_line_is_reported() {
        let scanned = Citations::scan(&Tree::of([("crates/a/src/lib.rs", "\n\n//= ZSSP-AA-01  words\n")]));
        assert_eq!(scanned.found[0].place.to_string(), "crates/a/src/lib.rs:3");
    }
}
