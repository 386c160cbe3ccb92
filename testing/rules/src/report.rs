use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    citations::{Citations, Role},
    document::{Document, Id, Proof, Requirement},
    tree::Place,
};

/// The area whose requirements may be met by construction: the defects of earlier implementations.
const DEFECTS: &str = "DEF";

/// Which citation a requirement lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The code that fulfils it.
    Code,
    /// Both.
    CodeAndTest,
    /// The test that proves it.
    Test,
}

/// One thing that is wrong between the document and the sources. Lines without a file are the document's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The document excuses a requirement from its test outside the section where that is possible.
    ConstructionNotAllowed(Requirement),
    /// An id is stated, or listed as not built, a second time.
    Duplicate {
        /// The id.
        id: Id,
        /// The second line.
        line: usize,
    },
    /// The list of what is not built names a requirement that code and test cite.
    ListedButBuilt {
        /// The id.
        id: Id,
        /// The line in the list.
        line: usize,
    },
    /// The list of what is not built names a requirement that the document does not state.
    ListedButUnknown {
        /// The id.
        id: Id,
        /// The line in the list.
        line: usize,
    },
    /// A comment begins like a citation and is none.
    MalformedCitation(Place),
    /// A line of the document looks like a statement or a list entry and is none.
    MalformedLine(usize),
    /// A citation names a requirement that the document does not state.
    UnknownCited {
        /// The id.
        id: Id,
        /// Where it is cited.
        place: Place,
    },
    /// A requirement is built, by its own account, and nothing shows it.
    Unproved {
        /// The requirement.
        requirement: Requirement,
        /// What is missing.
        missing: Missing,
    },
}

/// The outcome of holding the sources against the document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many requirements the document states.
    pub stated: usize,
    /// How many of them it lists as not built.
    pub not_built: usize,
    /// Everything that is wrong; empty means that the rule is kept.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Compares what the document states with what the sources cite.
    #[must_use]
    pub fn new(document: &Document, citations: &Citations) -> Self {
        let mut report = Self::default();
        report.faults.extend(document.malformed.iter().copied().map(Fault::MalformedLine));
        report.faults.extend(citations.malformed.iter().cloned().map(Fault::MalformedCitation));
        let stated = report.statements(document);
        let listed = report.list(document, &stated, citations);
        report.unknown_citations(&stated, citations);
        report.unproved(&stated, &listed, citations);
        report.stated = stated.len();
        report.not_built = listed.len();
        report
    }

    fn statements<'a>(&mut self, document: &'a Document) -> BTreeMap<&'a Id, &'a Requirement> {
        let mut stated = BTreeMap::new();
        for requirement in &document.requirements {
            if requirement.proof == Proof::Construction && requirement.id.area() != DEFECTS {
                self.faults.push(Fault::ConstructionNotAllowed(requirement.clone()));
            }
            if stated.insert(&requirement.id, requirement).is_some() {
                self.faults.push(Fault::Duplicate { id: requirement.id.clone(), line: requirement.line });
            }
        }
        stated
    }

    fn list<'a>(
        &mut self,
        document: &'a Document,
        stated: &BTreeMap<&Id, &Requirement>,
        citations: &Citations,
    ) -> BTreeSet<&'a Id> {
        let mut listed = BTreeSet::new();
        for (id, line) in &document.not_built {
            let line = *line;
            match stated.get(id) {
                None => self.faults.push(Fault::ListedButUnknown { id: id.clone(), line }),
                Some(requirement) if missing(requirement, citations).is_none() => {
                    self.faults.push(Fault::ListedButBuilt { id: id.clone(), line });
                }
                Some(_) if !listed.insert(id) => self.faults.push(Fault::Duplicate { id: id.clone(), line }),
                Some(_) => {}
            }
        }
        listed
    }

    fn unknown_citations(&mut self, stated: &BTreeMap<&Id, &Requirement>, citations: &Citations) {
        for citation in citations.found.iter().filter(|citation| !stated.contains_key(&citation.id)) {
            self.faults.push(Fault::UnknownCited { id: citation.id.clone(), place: citation.place.clone() });
        }
    }

    fn unproved(
        &mut self,
        stated: &BTreeMap<&Id, &Requirement>,
        listed: &BTreeSet<&Id>,
        citations: &Citations,
    ) {
        for (_, requirement) in stated.iter().filter(|(id, _)| !listed.contains(*id)) {
            if let Some(missing) = missing(requirement, citations) {
                self.faults.push(Fault::Unproved { requirement: (*requirement).clone(), missing });
            }
        }
    }
}

fn missing(requirement: &Requirement, citations: &Citations) -> Option<Missing> {
    let code = citations.has(&requirement.id, Role::Code);
    let test = requirement.proof == Proof::Construction || citations.has(&requirement.id, Role::Test);
    match (code, test) {
        (true, true) => None,
        (true, false) => Some(Missing::Test),
        (false, true) => Some(Missing::Code),
        (false, false) => Some(Missing::CodeAndTest),
    }
}

impl fmt::Display for Report {
    /// The table of what is unproved, then everything else that is wrong, then the count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unproved, others): (Vec<_>, Vec<_>) =
            self.faults.iter().partition(|fault| matches!(fault, Fault::Unproved { .. }));
        if !unproved.is_empty() {
            writeln!(f, "{:<12}  {:>4}  no citation in", "requirement", "line")?;
        }
        for fault in &unproved {
            writeln!(f, "{fault}")?;
        }
        for fault in &others {
            writeln!(f, "{fault}")?;
        }
        writeln!(
            f,
            "{} requirements, {} not built yet, {} of the others unproved, {} other faults",
            self.stated,
            self.not_built,
            unproved.len(),
            others.len()
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConstructionNotAllowed(requirement) => {
                let Requirement { id, line, .. } = requirement;
                write!(f, "line {line}: {id} cannot be met by construction, only a {DEFECTS} can")
            }
            Self::Duplicate { id, line } => write!(f, "line {line}: {id} is there already"),
            Self::ListedButBuilt { id, line } => {
                write!(
                    f,
                    "line {line}: {id} is cited in code and test, take it off the list of what is not built"
                )
            }
            Self::ListedButUnknown { id, line } => {
                write!(f, "line {line}: {id} is not stated in the document")
            }
            Self::MalformedCitation(place) => {
                write!(f, "{place}: a citation is `//= ID  a few words`, one id per line")
            }
            Self::MalformedLine(line) => write!(f, "line {line}: names no proper id, or gives no reason"),
            Self::UnknownCited { id, place } => write!(f, "{place}: {id} is not stated in the document"),
            Self::Unproved { requirement, missing } => {
                let missing = match missing {
                    Missing::Code => "code",
                    Missing::CodeAndTest => "code, test",
                    Missing::Test => "test",
                };
                write!(f, "{:<12}  {:>4}  {missing}", requirement.id, requirement.line)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    /// Holds one source file of code, and one of tests, against a document.
    fn report(document: &str, code: &str, test: &str) -> Report {
        let tree = Tree::of([("crates/a/src/lib.rs", code), ("crates/a/tests/a.rs", test)]);
        Report::new(&Document::parse(document), &Citations::scan(&tree))
    }

    fn faults(document: &str, code: &str, test: &str) -> Vec<String> {
        report(document, code, test).faults.iter().map(Fault::to_string).collect()
    }

    const ONE: &str = "- **`ZSSP-AA-01`** It MUST.\n";
    const CITE: &str = "//= ZSSP-AA-01  it does\n";

    #[test]
    fn code_and_test_are_both_needed() {
        assert_eq!(faults(ONE, CITE, CITE), [""; 0]);
        assert_eq!(faults(ONE, CITE, ""), ["ZSSP-AA-01       1  test"]);
        assert_eq!(faults(ONE, "", CITE), ["ZSSP-AA-01       1  code"]);
        assert_eq!(faults(ONE, "", ""), ["ZSSP-AA-01       1  code, test"]);
    }

    #[test]
    fn a_defect_made_impossible_needs_the_code_that_does_it() {
        let document = "- **`ZSSP-DEF-01`** *(by construction)* It MUST NOT.\n";
        assert_eq!(faults(document, "//= ZSSP-DEF-01  cannot be written\n", ""), [""; 0]);
        assert_eq!(faults(document, "", ""), ["ZSSP-DEF-01      1  code"]);
        let elsewhere = "- **`ZSSP-AA-01`** *(by construction)* It MUST NOT.\n";
        assert_eq!(faults(elsewhere, CITE, "").len(), 1);
    }

    #[test]
    fn what_is_not_built_needs_nothing_and_leaves_the_list_when_it_is() {
        let document = format!("{ONE}## Not built yet\n- `ZSSP-AA-01`: comes later\n");
        assert_eq!(faults(&document, "", ""), [""; 0]);
        assert_eq!(faults(&document, CITE, ""), [""; 0]);
        assert_eq!(faults(&document, CITE, CITE).len(), 1);
        assert_eq!(report(&document, "", "").not_built, 1);
    }

    #[test]
    fn ids_must_exist_and_be_stated_once() {
        assert!(
            faults(ONE, "", "//= ZSSP-AA-02  nowhere\n")
                .contains(&"crates/a/tests/a.rs:1: ZSSP-AA-02 is not stated in the document".into())
        );
        assert_eq!(faults(&ONE.repeat(2), CITE, CITE), ["line 2: ZSSP-AA-01 is there already"]);
        let listed = format!("{ONE}## Not built yet\n- `ZSSP-AA-02`: comes later\n");
        assert_eq!(faults(&listed, CITE, CITE), ["line 3: ZSSP-AA-02 is not stated in the document"]);
        let twice = format!("{ONE}## Not built yet\n{}", "- `ZSSP-AA-01`: later\n".repeat(2));
        assert_eq!(faults(&twice, "", ""), ["line 4: ZSSP-AA-01 is there already"]);
    }

    #[test]
    fn what_cannot_be_read_is_a_fault() {
        assert_eq!(faults("- **`ZSSP-AA-1`** It MUST.\n", "//= nothing\n", "").len(), 2);
    }

    #[test]
    fn the_table_ends_with_the_count() {
        let shown = report(&ONE.replace("01", "02"), CITE, "").to_string();
        assert_eq!(
            shown,
            "requirement   line  no citation in\n\
             ZSSP-AA-02       1  code, test\n\
             crates/a/src/lib.rs:1: ZSSP-AA-01 is not stated in the document\n\
             1 requirements, 0 not built yet, 1 of the others unproved, 1 other faults\n"
        );
    }
}
