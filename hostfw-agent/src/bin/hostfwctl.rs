//! `hostfwctl`: changes and shows the resources of hostfw.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use hostfw_agent::ctl::{self, Cli, CtlError, Streams};

fn main() -> ExitCode {
    let cli = match Cli::read(env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            return match error.print() {
                Ok(()) if !failed => ExitCode::SUCCESS,
                Ok(()) | Err(_) => ctl::usage_exit_code(env::args_os()).into(),
            };
        }
    };
    let mut streams = Streams {
        input: io::stdin().lock(),
        output: io::stdout().lock(),
        warnings: io::stderr(),
    };
    let result = ctl::run(cli, &mut streams);
    let flushed = streams.output.flush().map_err(CtlError::from);
    match result.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        // `hostfwctl get ... | head`: nobody is left to be told.
        Err(CtlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            error.exit_code().into()
        }
    }
}
