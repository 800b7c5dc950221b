use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
};

use hostfw_agent::{observe::status::Status, source::read_folder};
use tempfile::TempDir;

/// A store of its own for each test.
pub(crate) struct Sandbox {
    folder: TempDir,
}

/// What a command has done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("temporary folder"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file, and makes folders for it.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        let parent = path.parent().expect("inside the sandbox");
        fs::create_dir_all(parent).expect("folder");
        fs::write(&path, text).expect("file");
        path.display().to_string()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostfwctl"));
        command
            .args(arguments)
            .env("HOSTFW_STORE", self.store())
            .env("HOSTFW_SOCKET", self.path("agent.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Done {
        let mut child = self.command(arguments).spawn().expect("hostfwctl starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may leave without having read all, or any.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        Done::from(child.wait_with_output().expect("hostfwctl ends"))
    }

    #[track_caller]
    pub(crate) fn apply(&self, input: &str) {
        self.run(&["apply", "-f", "-"], input).succeeds();
    }

    /// Names of the store's files.
    pub(crate) fn files(&self) -> Vec<String> {
        match read_folder(&self.store()) {
            Ok(snapshot) => snapshot
                .files
                .iter()
                .map(|file| file.path.to_string())
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    pub(crate) fn stored(&self, file: &str) -> String {
        fs::read_to_string(self.store().join(file)).expect("file of the store")
    }

    /// Answers every question with what the function makes, until the test
    /// ends.
    pub(crate) fn agent(&self, mut status: impl FnMut() -> Status + Send + 'static) {
        self.serve(move |question| {
            assert_eq!(question, "{\"request\":\"status\"}\n");
            serde_json::to_vec(&status()).expect("JSON")
        });
    }

    /// Answers questions for flows and for what is enforced.
    pub(crate) fn agent_says(&self, flows: &'static str, enforced: &'static str) {
        self.serve(move |question| {
            let answer = match question {
                "{\"request\":\"flows\"}\n" => flows,
                "{\"request\":\"enforced\"}\n" => enforced,
                other => panic!("{other}"),
            };
            answer.into()
        });
    }

    /// Answers questions for reports, one after another.
    pub(crate) fn agent_reports(&self, mut answer: impl FnMut(&str) -> String + Send + 'static) {
        self.serve(move |question| answer(question).into_bytes());
    }

    fn serve(&self, mut answer: impl FnMut(&str) -> Vec<u8> + Send + 'static) {
        let listener = UnixListener::bind(self.path("agent.sock")).expect("socket");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("connection");
                let mut line = String::new();
                BufReader::new(&stream)
                    .read_line(&mut line)
                    .expect("request");
                stream.write_all(&answer(&line)).expect("answer");
            }
        });
    }

    pub(crate) fn revision(&self) -> String {
        read_folder(&self.store()).expect("store").revision
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Done {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn fails(self) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(!self.err.is_empty(), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert_eq!(self.out, text, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn complains(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} in {self:?}");
        self
    }
}
