//! The committed figures, and what is found beside them.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

const HEAD: &str = "\
# What the programs cost, told without a clock; tests/tests/verdict/guard.rs holds
# them to it. Changed on purpose only, by
# HOSTFW_BLESS=1 cargo xtask test --only verdict --filter guard

# The figures of programs.* are what the verifier of this kernel says; on others
# they are shown, and not compared.
";

/// Whether what is found is to be written down instead of compared.
pub(super) fn blesses() -> bool {
    env::var_os("HOSTFW_BLESS").is_some_and(|value| value == "1")
}

/// The running kernel's release.
pub(super) fn release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    text.trim().to_owned()
}

/// The part of a release by which kernels are told apart: `6.18`.
fn version(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// A table of the file: its name, and lines `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    name: String,
    lines: Vec<(String, String)>,
}

impl Section {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            lines: Vec::new(),
        }
    }

    pub(super) fn line(&mut self, key: &str, value: impl fmt::Display) {
        self.lines.push((key.to_owned(), value.to_string()));
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[{}]", self.name)?;
        for (key, value) in &self.lines {
            writeln!(f, "{key} = {value}")?;
        }
        Ok(())
    }
}

/// The file.
pub(super) struct Record {
    kernel: String,
    sections: Vec<Section>,
}

impl Record {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.toml")
    }

    pub(super) fn read() -> Self {
        match fs::read_to_string(Self::path()) {
            Ok(text) => Self::parse(&text),
            Err(_) if blesses() => Self::parse(""),
            Err(error) => panic!("{}: {error}", Self::path().display()),
        }
    }

    fn parse(text: &str) -> Self {
        let mut record = Self {
            kernel: String::new(),
            sections: Vec::new(),
        };
        for line in text.lines() {
            if line.is_empty() || line.starts_with('#') {
            } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                record.sections.push(Section::new(name));
            } else if let Some((key, value)) = line.split_once(" = ") {
                match record.sections.last_mut() {
                    Some(section) => section.line(key, value),
                    None if key == "kernel" => record.kernel = value.trim_matches('"').to_owned(),
                    None => panic!("{key} belongs to no table"),
                }
            } else {
                panic!("{line:?} is neither a table nor a figure");
            }
        }
        record
    }

    /// The kernel whose verifier the figures are of: major and minor version.
    pub(super) fn kernel(&self) -> &str {
        &self.kernel
    }

    pub(super) fn is_of_this_kernel(&self) -> bool {
        self.kernel == version(&release())
    }

    /// That the tables whose names begin so are these; or writes them down.
    pub(super) fn hold(mut self, part: &str, found: Vec<Section>) {
        let belongs = |section: &Section| section.name.split('.').next() == Some(part);
        assert!(found.iter().all(belongs), "{found:?}");
        if blesses() {
            if part == "programs" {
                self.kernel = version(&release());
            }
            self.sections.retain(|section| !belongs(section));
            self.sections.extend(found);
            self.sections
                .sort_by_key(|s| s.name.split('.').next().map(str::to_owned));
            fs::write(Self::path(), self.to_string()).unwrap();
            return;
        }
        let expected: Vec<&Section> = self.sections.iter().filter(|s| belongs(s)).collect();
        let mut wrong = String::new();
        for section in &found {
            match expected.iter().find(|e| e.name == section.name) {
                Some(expected) if *expected == section => {}
                Some(expected) => {
                    for line in expected.lines.iter().filter(|l| !section.lines.contains(l)) {
                        wrong += &format!("[{}] expected {} = {}\n", section.name, line.0, line.1);
                    }
                    for line in section.lines.iter().filter(|l| !expected.lines.contains(l)) {
                        wrong += &format!("[{}] found    {} = {}\n", section.name, line.0, line.1);
                    }
                    if wrong.is_empty() {
                        wrong += &format!("[{}] has another order\n", section.name);
                    }
                }
                None => wrong += &format!("[{}] is not in the file\n", section.name),
            }
        }
        for section in expected {
            if found.iter().all(|found| found.name != section.name) {
                wrong += &format!("[{}] is in the file, and was not found\n", section.name);
            }
        }
        let put: String = found.iter().map(|section| format!("{section}\n")).collect();
        assert!(
            wrong.is_empty(),
            "tests/guard.toml:\n{wrong}If that is meant, put there (HOSTFW_BLESS=1 does):\n\n{put}"
        );
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}kernel = \"{}\"", self.kernel)?;
        for section in &self.sections {
            write!(f, "\n{section}")?;
        }
        Ok(())
    }
}

#[test]
fn guard_file_is_read_as_it_is_written() {
    let text = format!(
        "{HEAD}kernel = \"6.18\"\n\n[maps.a]\nA = {{ entries = 1 }}\n\n[programs.b]\nverified = 7\n"
    );
    let record = Record::parse(&text);
    assert_eq!(record.kernel(), "6.18");
    assert_eq!(record.sections.len(), 2);
    assert_eq!(record.to_string(), text);
    assert_eq!(version("6.18.44-fc-v595"), "6.18");
    assert_eq!(version("6.1.0"), "6.1");
}
