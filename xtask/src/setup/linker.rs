//! bpf-linker, of one version, in a folder of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Lock, progress, toolchain};
use crate::workspace::{Workspace, output, run};

/// The last version that links with the LLVM of the pinned compiler.
const VERSION: &str = "0.10.3";

/// The folder of everything that is fetched or built once.
pub(super) fn cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(tools) = set("HOSTFW_TOOLS").filter(|tools| !tools.as_os_str().is_empty()) {
        return folder(Some(tools), None, None);
    }
    let mut folder = folder(None, set("XDG_CACHE_HOME"), set("HOME"))?;
    folder.pop();
    Ok(folder)
}

/// Returns the folder that holds the `bpf-linker` executable.
pub(super) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let root = folder(
        std::env::var_os("HOSTFW_TOOLS").map(PathBuf::from),
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
        std::env::var_os("HOME").map(PathBuf::from),
    )?;
    let bin = root.join("bin");
    if is_version(workspace, &bin) {
        return Ok(bin);
    }
    let mut lock = root.clone().into_os_string();
    lock.push(".lock");
    let _lock = Lock::take(Path::new(&lock))?;
    // Another set-up may have finished while this one waited.
    if is_version(workspace, &bin) {
        return Ok(bin);
    }
    progress(format_args!(
        "building bpf-linker {VERSION} into {} (a minute or two, once)",
        root.display()
    ));
    let mut install = workspace.cargo("install");
    install
        .args(["--locked", "--force", "--version", VERSION, "--root"])
        .arg(&root)
        .arg("bpf-linker")
        // Its LLVM is the compiler's, so the compiler has to be the pinned one.
        .env_remove("CARGO")
        .env("RUSTUP_TOOLCHAIN", toolchain::channel(&workspace.root)?)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    run(&mut install, "cargo install").with_context(|| {
        format!(
            "bpf-linker {VERSION} is missing (it links the BPF programs) and cannot be built; with network: cargo install --locked --version {VERSION} --root {} bpf-linker",
            root.display()
        )
    })?;
    if !is_version(workspace, &bin) {
        bail!(
            "{} does not run as version {VERSION}: remove {} and try again",
            bin.join("bpf-linker").display(),
            root.display()
        );
    }
    Ok(bin)
}

fn folder(
    tools: Option<PathBuf>,
    cache: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Result<PathBuf> {
    if let Some(tools) = tools.filter(|tools| !tools.as_os_str().is_empty()) {
        return std::path::absolute(tools).context("HOSTFW_TOOLS");
    }
    // The XDG base directory specification ignores relative paths.
    let cache = match cache.filter(|cache| cache.is_absolute()) {
        Some(cache) => cache,
        None => home
            .context(
                "neither HOSTFW_TOOLS, XDG_CACHE_HOME nor HOME is set: set one, for bpf-linker",
            )?
            .join(".cache"),
    };
    Ok(cache.join(format!("hostfw/tools/bpf-linker-{VERSION}")))
}

fn is_version(workspace: &Workspace, bin: &Path) -> bool {
    let Some(file) = bin.join("bpf-linker").to_str().map(str::to_owned) else {
        return false;
    };
    output(workspace.command(&file).arg("--version"), "bpf-linker")
        .is_ok_and(|text| text.split_whitespace().any(|word| word == VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_win_over_cache_over_home() {
        let tools = Some(PathBuf::from("/t"));
        let cache = Some(PathBuf::from("/c"));
        let home = Some(PathBuf::from("/h"));
        assert_eq!(
            folder(tools, cache.clone(), home.clone()).unwrap(),
            Path::new("/t")
        );
        assert_eq!(
            folder(None, cache, home.clone()).unwrap(),
            Path::new("/c/hostfw/tools/bpf-linker-0.10.3")
        );
        assert_eq!(
            folder(None, Some("relative".into()), home).unwrap(),
            Path::new("/h/.cache/hostfw/tools/bpf-linker-0.10.3")
        );
        assert!(folder(None, None, None).is_err());
    }

    #[test]
    fn another_version_is_not_taken() {
        use std::os::unix::fs::PermissionsExt;
        let workspace = Workspace::here().unwrap();
        let bin = tempfile::tempdir().unwrap();
        let file = bin.path().join("bpf-linker");
        for (version, taken) in [("0.10.30", false), (VERSION, true)] {
            std::fs::write(&file, format!("#!/bin/sh\necho bpf-linker {version}\n")).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
            assert_eq!(is_version(&workspace, bin.path()), taken, "{version}");
        }
    }
}
