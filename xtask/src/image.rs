//! `cargo xtask image`: a container image that holds two static executables and
//! the licences, and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    setup::{self, Need},
    workspace::{Workspace, output},
};

/// With an explicit target, flags for it do not concern build scripts; and only
/// with one does glibc link statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The name of the image, without its tag.
const NAME: &str = "hostfw";

/// What to build.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write the image, an OCI archive [default:
    /// target/image/hostfw-VERSION.tar]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Builds, and says where the image is.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = setup::ensure(&[Need::Build, Need::Image])?;
    let file = build(&workspace, args.output.as_deref(), false)?;
    println!("{}", file.display());
    Ok(())
}

/// Builds the image and returns the archive. Nothing is left in the machine's
/// own store of images.
pub(crate) fn build(workspace: &Workspace, to: Option<&Path>, quiet: bool) -> Result<PathBuf> {
    let binaries = build::agent_static(workspace, TARGET, quiet)?;
    for file in [&binaries.agent, &binaries.ctl] {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        match interpreter(&bytes) {
            Some(None) => {}
            Some(Some(loader)) => bail!(
                "{} is not static, it asks for {loader}: is glibc's libc.a missing (package libc6-dev)?",
                file.display()
            ),
            None => bail!("{} is no 64-bit ELF file", file.display()),
        }
    }

    let folder = workspace.target().join("image");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let scratch = tempfile::tempdir_in(&folder).context("a folder for the image's layers")?;
    let root = scratch.path().join("files");
    lay_out(&workspace.root, &binaries, &root)?;

    let tag = format!("{NAME}:{}", env!("CARGO_PKG_VERSION"));
    let file = match to {
        Some(file) => std::path::absolute(file).context("--output")?,
        None => folder.join(format!("{NAME}-{}.tar", env!("CARGO_PKG_VERSION"))),
    };
    let buildah = |arguments: &[&str]| -> Result<String> {
        let mut command = buildah(workspace, scratch.path());
        let what = format!("buildah {}", arguments.first().unwrap_or(&""));
        Ok(output(command.args(arguments), &what)?.trim().to_owned())
    };
    let container = buildah(&["from", "scratch"])?;
    // Its owner is the image's, not whoever builds.
    buildah(&[
        "add",
        "-q",
        "--chown",
        "0:0",
        &container,
        &root.to_string_lossy(),
        "/",
    ])?;
    let source = "org.opencontainers.image.licenses=Apache-2.0 OR MIT";
    let version = concat!(
        "org.opencontainers.image.version=",
        env!("CARGO_PKG_VERSION")
    );
    buildah(&[
        "config",
        "--entrypoint",
        r#"["/bin/hostfw-agent"]"#,
        "--cmd",
        "",
        "--env",
        "PATH=/bin",
        "--label",
        source,
        "--label",
        version,
        &container,
    ])?;
    // The same files give the same image.
    buildah(&["commit", "-q", "--timestamp", "0", &container, &tag])?;
    // An archive that is there would be added to.
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| file.display().to_string());
        }
        Ok(()) | Err(_) => {}
    }
    let archive = format!("oci-archive:{}:{tag}", file.display());
    buildah(&["push", "-q", &tag, &archive])?;
    Ok(file)
}

/// Buildah with a store of its own and without overlays, which not every
/// machine can stack.
fn buildah(workspace: &Workspace, folder: &Path) -> Command {
    let mut command = workspace.command("buildah");
    command
        .arg("--root")
        .arg(folder.join("store"))
        .arg("--runroot")
        .arg(folder.join("run"))
        .args(["--storage-driver", "vfs"]);
    command
}

/// What the image holds, with the modes that it will have.
fn lay_out(source: &Path, binaries: &build::Binaries, root: &Path) -> Result<()> {
    let copy = |from: &Path, to: &str, mode: u32| -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let to = root.join(to);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::copy(from, &to).with_context(|| from.display().to_string())?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))
            .with_context(|| to.display().to_string())
    };
    copy(&binaries.agent, "bin/hostfw-agent", 0o755)?;
    copy(&binaries.ctl, "bin/hostfwctl", 0o755)?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let to = format!("usr/share/doc/hostfw/{licence}");
        copy(&source.join(licence), &to, 0o644)?;
    }
    Ok(())
}

/// The loader that an executable asks for: `Some(None)` if it is static. `None`
/// if it is no 64-bit little-endian ELF file.
fn interpreter(elf: &[u8]) -> Option<Option<String>> {
    /// `PT_INTERP` of elf(5).
    const INTERPRETER: u64 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let headers = usize::try_from(number(32, 8)?).ok()?;
    let size = usize::try_from(number(54, 2)?).ok()?;
    let count = usize::try_from(number(56, 2)?).ok()?;
    for index in 0..count {
        let header = headers.checked_add(index.checked_mul(size)?)?;
        if number(header, 4)? == INTERPRETER {
            let offset = usize::try_from(number(header.checked_add(8)?, 8)?).ok()?;
            let length = usize::try_from(number(header.checked_add(32)?, 8)?).ok()?;
            let name = elf.get(offset..offset.checked_add(length)?)?;
            let name = String::from_utf8_lossy(name);
            return Some(Some(name.trim_end_matches('\0').to_owned()));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        // Tests are linked as the machine links by default.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = interpreter(&own).unwrap();
        assert!(found.is_some_and(|loader| loader.contains("/ld-")));
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(interpreter(&own[..100]), None, "cut");
    }

    #[test]
    fn the_image_has_two_programs_and_their_licences() {
        let workspace = Workspace::here().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = workspace.which("sh").unwrap();
        let binaries = build::Binaries {
            agent: program.clone(),
            ctl: program,
        };
        lay_out(&workspace.root, &binaries, folder.path()).unwrap();
        for file in [
            "bin/hostfw-agent",
            "bin/hostfwctl",
            "usr/share/doc/hostfw/LICENSE-MIT",
            "usr/share/doc/hostfw/LICENSE-APACHE",
        ] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}
