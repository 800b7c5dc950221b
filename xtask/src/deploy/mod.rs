//! The manifests below deploy/: rendered by the real kustomize and helm, held to
//! the schemas of Kubernetes, to each other, and to what they promise.

mod promises;
mod render;
mod rights;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    build::Binaries,
    setup::manifests,
    test::count::Count,
    workspace::{Workspace, output},
};
use render::Renderer;

/// The oldest version that the chart admits, and the newest with schemas.
const KUBERNETES: [&str; 2] = ["1.25", "1.37"];

/// The rights that the agent can be given: an overlay, and a value of the
/// chart's `profile`.
const PROFILES: [&str; 2] = ["privileged", "capabilities"];

/// Folders of definitions, and the values with which the chart has those alone.
const DEFINITIONS: [(&str, &[&str]); 2] = [
    ("hostfw.io", &[]),
    (
        "projectcalico.org",
        &["crds.hostfw=false", "crds.calico=true"],
    ),
];

/// Values that together reach every line of the chart.
const VALUES: &[&[&str]] = &[
    &["observeOnly=true", "logFormat=text"],
    &["extraArgs={--netfilter=off,--ingress=tc}"],
    &[
        "imagePullSecrets[0].name=x",
        "image.tag=v1",
        "maxUnavailable=1",
    ],
    &["resources=null", "nodeSelector=null", "tolerations=null"],
    &["crds.hostfw=false", "source=folder"],
];

/// What the chart's schema is there to refuse.
const REFUSED: &[&str] = &[
    "profile=banana",
    "extraArgs={--detach}",
    "logFormat=xml",
    "source=etcd",
    "observeonly=true",
    "crds.install=true",
];

/// Runs every check; one that finds something does not hide the others.
pub(crate) fn run(
    workspace: &Workspace,
    binaries: &Binaries,
    filter: Option<&str>,
) -> Result<Count> {
    let renderer = Renderer {
        workspace,
        tools: manifests::ensure(workspace)?,
    };
    let mut checks: Vec<(String, Check<'_>)> = Vec::new();
    for profile in PROFILES {
        checks.push((
            format!("kustomize, {profile}: schemas, promises, flags"),
            Box::new(move |on| {
                let objects = on.renderer.kustomize(profile)?;
                on.hold(&objects)?;
                promises::of_profile(&objects, profile)
            }),
        ));
        checks.push((
            format!("helm, {profile}: schemas, promises, flags"),
            Box::new(move |on| {
                let objects = on.renderer.helm(&[&format!("profile={profile}")])?;
                on.hold(&objects)?;
                promises::of_profile(&objects, profile)
            }),
        ));
        checks.push((
            format!("kustomize and helm are the same, {profile}"),
            Box::new(move |on| {
                let profile_value = format!("profile={profile}");
                let chart = on.renderer.helm(&[&profile_value, "crds.hostfw=false"])?;
                promises::same(&on.renderer.kustomize(profile)?, &chart)
            }),
        ));
    }
    for (group, values) in DEFINITIONS {
        checks.push((
            format!("definitions of {group}: schemas, kustomize and helm are the same"),
            Box::new(move |on| {
                let ours = on.renderer.definitions(group)?;
                on.validate(&ours)?;
                let chart = on.renderer.helm(values)?;
                promises::kept(&chart)?;
                promises::same(&ours, &promises::definitions(chart))
            }),
        ));
    }
    checks.push((
        "the chart passes helm's linter".to_owned(),
        Box::new(|on| on.renderer.lint()),
    ));
    for values in VALUES {
        checks.push((
            format!("helm with {}", values.join(" ")),
            Box::new(|on| {
                let objects = on.renderer.helm(values)?;
                on.validate(&objects)?;
                on.flags(&objects)
            }),
        ));
    }
    checks.push((
        "helm with metrics.podMonitor=true: Prometheus reaches the metrics".to_owned(),
        Box::new(|on| {
            let values = ["metrics.podMonitor=true", "metrics.port=9740"];
            let objects = on.renderer.helm(&values)?;
            on.hold(&objects)?;
            promises::of_monitor(&objects)
        }),
    ));
    for profile in PROFILES {
        checks.push((
            format!("kustomize, {profile}, with podmonitor: the same as helm's"),
            Box::new(move |on| {
                let objects = on.renderer.with_component(profile, "podmonitor")?;
                on.hold(&objects)?;
                promises::of_monitor(&objects)?;
                let profile = format!("profile={profile}");
                let values = [&*profile, "metrics.podMonitor=true", "crds.hostfw=false"];
                promises::same(&objects, &on.renderer.helm(&values)?)
            }),
        ));
    }
    for value in REFUSED {
        checks.push((
            format!("helm refuses {value}"),
            Box::new(|on| match on.renderer.helm(&[value]) {
                Ok(_) => bail!("it was rendered"),
                Err(error) if format!("{error:#}").contains("schema") => Ok(()),
                Err(error) => Err(error.context("not for its schema")),
            }),
        ));
    }

    let on = On {
        renderer: &renderer,
        binaries,
    };
    let mut count = Count::default();
    for (name, check) in checks {
        if filter.is_some_and(|text| !name.contains(text)) {
            continue;
        }
        count += match check(&on) {
            Ok(()) => {
                println!("    {name}: ok");
                Count::PASSED
            }
            Err(error) => {
                println!("    {name}: {error:#}");
                Count::FAILED
            }
        };
    }
    Ok(count)
}

type Check<'a> = Box<dyn Fn(&On<'_>) -> Result<()> + 'a>;

/// What checks work with.
struct On<'a> {
    renderer: &'a Renderer<'a>,
    binaries: &'a Binaries,
}

impl On<'_> {
    fn hold(&self, objects: &[Value]) -> Result<()> {
        self.validate(objects)?;
        promises::of_all(objects)?;
        self.flags(objects)
    }

    /// Holds objects to the schemas, unknown fields included.
    fn validate(&self, objects: &[Value]) -> Result<()> {
        let folder = tempfile::tempdir().context("a folder for manifests")?;
        // Those of an operator are not among them.
        let known = |object: &&Value| object["kind"] != "PodMonitor";
        let objects: Vec<&Value> = objects.iter().filter(known).collect();
        for (index, object) in objects.iter().enumerate() {
            let file = folder.path().join(format!("{index}.yaml"));
            // JSON is YAML.
            std::fs::write(&file, object.to_string())?;
        }
        for version in KUBERNETES {
            let files = (0..objects.len()).map(|index| folder.path().join(format!("{index}.yaml")));
            let mut python = self.renderer.tool("python");
            python
                .args(["-m", "kubernetes_validate", "--strict", "--quiet"])
                .args(["-k", version])
                .args(files);
            let done = python.output().context("cannot run python")?;
            if !done.status.success() {
                bail!(
                    "{}{}",
                    String::from_utf8_lossy(&done.stdout).trim(),
                    String::from_utf8_lossy(&done.stderr).trim()
                );
            }
        }
        Ok(())
    }

    /// Has the programs themselves say whether they take the arguments that
    /// containers give them.
    fn flags(&self, objects: &[Value]) -> Result<()> {
        let mut calls = 0;
        for container in promises::containers(objects) {
            let call = promises::call(container);
            let (program, arguments) = call.split_first().context("an empty command")?;
            let file = self.program(program)?;
            let mut command = self.renderer.workspace.command(&file.to_string_lossy());
            // What stands before it is checked before it is answered.
            command.args(arguments).arg("--help");
            output(&mut command, program).with_context(|| call.join(" "))?;
            calls += 1;
            let mut help = self
                .renderer
                .workspace
                .command(&self.binaries.agent.to_string_lossy());
            let help = output(help.arg("--help"), "hostfw-agent")?;
            for name in promises::variables(container) {
                if !help.contains(&format!("[env: {name}=")) {
                    bail!("hostfw-agent does not look at {name}");
                }
            }
        }
        if calls == 0 {
            bail!("no container calls a program");
        }
        Ok(())
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        match name {
            "hostfw-agent" => Ok(self.binaries.agent.clone()),
            "hostfwctl" => Ok(self.binaries.ctl.clone()),
            other => bail!("the image has no program {other}"),
        }
    }
}
