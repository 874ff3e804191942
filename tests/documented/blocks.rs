//! The fenced blocks of a page, with what is said of them in a comment above: `<!-- file: NAME -->`, a file that the
//! commands below it use, or `<!-- not run: REASON -->`.

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of its first line.
    pub(crate) line: usize,
    /// The word after the fence.
    pub(crate) language: String,
    /// The heading above it.
    pub(crate) section: String,
    /// What is in it.
    pub(crate) lines: Vec<String>,
    /// The file that it is the text of.
    pub(crate) file: Option<String>,
    /// Why its commands are not run.
    pub(crate) not_run: Option<String>,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Commands.
    Commands,
    /// Commands after a `$`, with what they print.
    Session,
    /// Lines of a crontab.
    Crontab,
    /// Nothing to run.
    Other,
}

impl Block {
    /// What it holds.
    pub(crate) fn kind(&self) -> Kind {
        match self.language.as_str() {
            "sh" | "bash" | "shell" => Kind::Commands,
            "console" => Kind::Session,
            "crontab" => Kind::Crontab,
            _ => Kind::Other,
        }
    }
}

/// The fenced blocks of a Markdown page.
pub(crate) fn of(page: &str) -> Vec<Block> {
    let said = |line: &str, what: &str| {
        let text = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        text.strip_prefix(what)?.strip_prefix(": ").map(str::to_owned)
    };
    let (mut blocks, mut section, mut above) = (Vec::new(), String::new(), "");
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(heading) = line.strip_prefix('#') {
            heading.trim_start_matches(['#', ' ']).clone_into(&mut section);
        }
        if let Some(language) = line.strip_prefix("```") {
            blocks.push(Block {
                line: number + 2,
                language: language.trim().to_owned(),
                section: section.clone(),
                lines: lines
                    .by_ref()
                    .map(|(_, line)| line.to_owned())
                    .take_while(|line| line != "```")
                    .collect(),
                file: said(above, "file"),
                not_run: said(above, "not run"),
            });
        }
        above = line;
    }
    blocks
}

#[test]
fn blocks_are_found_with_what_is_said_of_them() {
    let page = "# A\n\n<!-- file: a.toml -->\n```toml\nb = 1\n```\n## B c\n<!-- not run: slow -->\n```sh\n# d\ne\n```\n";
    let blocks = of(page);
    assert_eq!(
        (blocks[0].file.as_deref(), blocks[0].line, blocks[0].kind()),
        (Some("a.toml"), 5, Kind::Other)
    );
    assert_eq!((blocks[0].section.as_str(), &*blocks[0].lines), ("A", &["b = 1".to_owned()][..]));
    assert_eq!((blocks[1].not_run.as_deref(), blocks[1].section.as_str()), (Some("slow"), "B c"));
    assert_eq!((blocks[1].lines.len(), blocks[1].kind(), blocks.len()), (2, Kind::Commands, 2));
}
