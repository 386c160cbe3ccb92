use std::fmt;

const OPENING: &str = "**`ZSSP-";
const BY_CONSTRUCTION: &str = "*(by construction)*";
const NOT_BUILT_HEADING: &str = "## Not built yet";

/// The name of one requirement: `ZSSP-`, an area of two to four capitals, `-`, two digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// The id that `text` is, if it is exactly one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (area, number) = text.strip_prefix("ZSSP-")?.split_once('-')?;
        let area_fits = (2..=4).contains(&area.len()) && area.bytes().all(|byte| byte.is_ascii_uppercase());
        let number_fits = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
        (area_fits && number_fits).then(|| Self(text.to_owned()))
    }

    /// The area, such as `RPL`.
    #[must_use]
    pub fn area(&self) -> &str {
        self.0.split('-').nth(1).unwrap_or_default()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One requirement, where the document states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Its id.
    pub id: Id,
    /// The line that states it, from 1.
    pub line: usize,
    /// What has to cite it.
    pub proof: Proof,
}

/// What a requirement needs besides the code that fulfils it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: the code base cannot express the violation, and the code that makes it so cites the id.
    Construction,
    /// A test that cites it.
    Test,
}

/// What the protocol document says: its requirements, and which of them are announced as not built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Every requirement in the order of the document; an id stated twice is there twice.
    pub requirements: Vec<Requirement>,
    /// The list at the end of the document: id and line.
    pub not_built: Vec<(Id, usize)>,
    /// Lines that look like a statement or a list entry and name no proper id.
    pub malformed: Vec<usize>,
}

impl Document {
    /// Reads the document: a requirement is an id printed in bold code, an entry of the final list is a bullet that
    /// begins with an id in code, a colon and a reason.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut in_list = false;
        for (line, content) in (1..).zip(text.lines()) {
            if content.starts_with("## ") {
                in_list = content.trim_end() == NOT_BUILT_HEADING;
            }
            if in_list && content.starts_with("- ") {
                match list_entry(content) {
                    Some(id) => document.not_built.push((id, line)),
                    None => document.malformed.push(line),
                }
            }
            document.read_statements(line, content);
        }
        document
    }

    fn read_statements(&mut self, line: usize, content: &str) {
        for (start, _) in content.match_indices(OPENING) {
            let statement = &content[start + "**`".len()..];
            let Some((name, rest)) = statement.split_once("`**") else {
                self.malformed.push(line);
                continue;
            };
            let constructed = rest.trim_start().starts_with(BY_CONSTRUCTION);
            let proof = if constructed { Proof::Construction } else { Proof::Test };
            match Id::parse(name) {
                Some(id) => self.requirements.push(Requirement { id, line, proof }),
                None => self.malformed.push(line),
            }
        }
    }
}

fn list_entry(content: &str) -> Option<Id> {
    let (name, reason) = content.strip_prefix("- `")?.split_once("`:")?;
    if reason.trim().is_empty() { None } else { Id::parse(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::parse(text).expect("a proper id")
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(id("ZSSP-RPL-02").area(), "RPL");
        for wrong in [
            "ZSSP-RPL-2",
            "ZSSP-rpl-02",
            "ZSSP-R-02",
            "ZSSP-REPLY-02",
            "RPL-02",
            "ZSSP-RPL-02x",
            "ZSSP--02",
            "",
        ] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn requirements_are_found_in_bullets_tables_and_paragraphs() {
        let text = "plain `ZSSP-AA-09` is a mention\n\
                    - **`ZSSP-AA-01`** It MUST.\n\
                    | **`ZSSP-AA-02`** | 1 |\n\
                    **`ZSSP-DEF-03`** *(by construction)* It MUST NOT.\n";
        let found = Document::parse(text);
        let expected = [
            Requirement { id: id("ZSSP-AA-01"), line: 2, proof: Proof::Test },
            Requirement { id: id("ZSSP-AA-02"), line: 3, proof: Proof::Test },
            Requirement { id: id("ZSSP-DEF-03"), line: 4, proof: Proof::Construction },
        ];
        assert_eq!(found.requirements, expected);
        assert_eq!(found.malformed, []);
    }

    #[test]
    fn a_misspelt_statement_is_reported_not_skipped() {
        let text = "- **`ZSSP-AA-1`** It MUST.\n- **`ZSSP-AA-02** It MUST.\n";
        assert_eq!(Document::parse(text).malformed, [1, 2]);
    }

    #[test]
    fn the_list_is_read_only_in_its_section_and_wants_reasons() {
        let text = "## Names\n- `ZSSP-AA-01`: not in the list\n\
                    ## Not built yet\n- `ZSSP-AA-02`: comes later\n- `ZSSP-AA-03`:\n- whatever\n\
                    ## Next\n- `ZSSP-AA-04`: not in the list\n";
        let found = Document::parse(text);
        assert_eq!(found.not_built, [(id("ZSSP-AA-02"), 4)]);
        assert_eq!(found.malformed, [5, 6]);
    }
}
