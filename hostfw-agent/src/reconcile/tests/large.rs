//! What happens in a cluster all the time, and matters to few nodes.

use super::*;

fn pod(name: &str, app: &str, address: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{name: {name}, \
         namespace: web, labels: {{app: {app}}}}}\nspec: {{ipNetworks: [{address}]}}\n"
    )
}

/// How often was compiled, and the generation.
fn counted(it: &mut Reconciler<Fake>) -> (u64, u64) {
    let text = metrics(it);
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("hostfw_compile_duration_seconds_count "));
    let generation = it.enforcer.dataplane().generation();
    (count.unwrap().parse().unwrap(), generation)
}

#[test]
fn what_does_not_matter_here_is_not_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let rule = "  - {action: Allow, source: {selector: app == 'shop'}}\n";
    let policy = policy("shop", 0) + rule;
    let mut pass = |pods: &[String]| {
        let mut files = vec![("hep.yaml", ENDPOINT), ("shop.yaml", &*policy)];
        let names: Vec<String> = (0..pods.len()).map(|it| format!("pod{it}.yaml")).collect();
        files.extend(
            names
                .iter()
                .map(String::as_str)
                .zip(pods.iter().map(|it| &**it)),
        );
        let stored = Snapshot::of_texts(&files);
        it.take_read(Ok(stored.clone()));
        assert!(it.reconcile(&[interface(2, "eth0")]));
        // It is in force all the same, and told so.
        assert_eq!(it.status().enforced_revision, stored.revision);
        assert_eq!(it.status().objects.len(), 2 + pods.len());
        counted(&mut it)
    };
    let shop = pod("shop-1", "shop", "10.244.1.1");
    let first = pass(std::slice::from_ref(&shop));
    // Others come, move and go.
    let other = |address| pod("other-1", "other", address);
    assert_eq!(pass(&[shop.clone(), other("10.244.2.1")]), first);
    assert_eq!(pass(&[shop.clone(), other("10.244.2.2")]), first);
    assert_eq!(pass(std::slice::from_ref(&shop)), first);
    // One that is meant moves.
    let moved = pass(&[pod("shop-1", "shop", "10.244.1.2")]);
    assert_eq!(moved, (first.0 + 1, first.1 + 1));
}
