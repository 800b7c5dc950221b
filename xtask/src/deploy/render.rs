//! From templates to objects.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::workspace::{Workspace, output};

/// Where the release of the chart would go; the namespace of the overlays.
const NAMESPACE: &str = "hostfw";

/// Reads YAML, as kubectl does, and prints a list in JSON.
const TO_JSON: &str = "
import json, sys, yaml
with open(sys.argv[1]) as file:
    print(json.dumps([one for one in yaml.safe_load_all(file) if one]))
";

pub(super) struct Renderer<'a> {
    pub(super) workspace: &'a Workspace,
    /// The folder of `kubectl`, `helm` and `python`.
    pub(super) tools: PathBuf,
}

impl Renderer<'_> {
    /// A tool that knows of no cluster.
    pub(super) fn tool(&self, name: &str) -> Command {
        let mut command = self
            .workspace
            .command(&self.tools.join(name).to_string_lossy());
        command.env("KUBECONFIG", "/dev/null");
        command
    }

    /// The objects of an overlay.
    pub(super) fn kustomize(&self, overlay: &str) -> Result<Vec<Value>> {
        self.build(&format!("deploy/kustomize/overlays/{overlay}"))
    }

    /// The definitions of a group of kinds.
    pub(super) fn definitions(&self, group: &str) -> Result<Vec<Value>> {
        self.build(&format!("deploy/crds/{group}"))
    }

    /// The objects of an overlay with a component.
    pub(super) fn with_component(&self, overlay: &str, component: &str) -> Result<Vec<Value>> {
        // kustomize takes no absolute paths, and looks behind links.
        let folder = tempfile::tempdir().context("an overlay")?;
        let depth = folder.path().canonicalize()?.components().count() - 1;
        let root = self.workspace.root.canonicalize()?;
        let root = root.strip_prefix("/").context("an absolute path")?;
        let at = format!("{}{}/deploy/kustomize", "../".repeat(depth), root.display());
        let file = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [format!("{at}/overlays/{overlay}")],
            "components": [format!("{at}/components/{component}")],
        });
        // JSON is YAML.
        std::fs::write(folder.path().join("kustomization.yaml"), file.to_string())?;
        self.build(&folder.path().to_string_lossy())
    }

    fn build(&self, folder: &str) -> Result<Vec<Value>> {
        let mut kubectl = self.tool("kubectl");
        kubectl.args(["kustomize", folder]);
        self.objects(&output(&mut kubectl, "kubectl kustomize")?)
    }

    /// The objects of the chart, with these values.
    pub(super) fn helm(&self, values: &[&str]) -> Result<Vec<Value>> {
        let mut helm = self.tool("helm");
        helm.args(["template", "hostfw", "deploy/helm/hostfw"])
            .args(["--namespace", NAMESPACE]);
        for value in values {
            helm.args(["--set", value]);
        }
        let done = helm.output().context("cannot run helm")?;
        if !done.status.success() {
            // All of it: the reason is not on the last line.
            bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
        }
        self.objects(&String::from_utf8_lossy(&done.stdout))
    }

    pub(super) fn lint(&self) -> Result<()> {
        let mut helm = self.tool("helm");
        output(
            helm.args(["lint", "--strict", "--quiet", "deploy/helm/hostfw"]),
            "helm lint",
        )
        .map(drop)
    }

    fn objects(&self, yaml: &str) -> Result<Vec<Value>> {
        let file = tempfile::NamedTempFile::new().context("a file for YAML")?;
        std::fs::write(file.path(), yaml)?;
        let mut python = self.tool("python");
        python.args(["-c", TO_JSON]).arg(file.path());
        let objects: Vec<Value> = serde_json::from_str(&output(&mut python, "reading YAML")?)?;
        if objects.is_empty() {
            bail!("nothing was rendered");
        }
        Ok(objects)
    }
}
