use super::*;
use crate::{
    accept::{Assembler, Shortfall},
    source::SourceFile,
};

fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    }
}

/// An object of one of several kinds, valid or not.
fn object(random: &mut impl FnMut(usize) -> usize) -> String {
    let (name, value) = (random(4), random(3));
    let api = "apiVersion: projectcalico.org/v3";
    match random(9) {
        0 => format!("{api}\nkind: Tier\nmetadata: {{name: t{name}}}\nspec: {{order: {value}}}\n"),
        1 | 2 => format!(
            "{api}\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{name}}}\nspec: {{tier: \
             t{value}, ingress: [{{action: Allow, protocol: TCP, source: {{selector: \"app == \
             'a{value}'\", namespaceSelector: \"has(team)\", serviceAccounts: {{names: [a]}}}}, destination: {{ports: \
             [port{value}]}}}}]}}\n"
        ),
        3 => format!(
            "{api}\nkind: GlobalNetworkSet\nmetadata: {{name: s{name}, labels: {{app: \
             a{value}}}}}\nspec: {{nets: [10.1.{name}.{value}]}}\n"
        ),
        4 => format!(
            "{api}\nkind: HostEndpoint\nmetadata: {{name: h{name}}}\nspec: {{node: \
             node{value}, interfaceName: eth{name}}}\n"
        ),
        // Of a wrong type, or not valid.
        5 => format!("{api}\nkind: Tier\nmetadata: {{name: t{name}}}\nspec: {{order: high}}\n"),
        6 => format!(
            "{api}\nkind: WorkloadEndpoint\nmetadata: {{name: w{name}, namespace: a}}\nspec: \
             {{ipNetworks: [nonsense]}}\n"
        ),
        _ => format!(
            "{api}\nkind: WorkloadEndpoint\nmetadata: {{name: w{name}, namespace: a{value}, \
             labels: {{app: a{value}}}}}\nspec: {{ipNetworks: [10.0.{name}.{value}], ports: \
             [{{name: port{}, protocol: TCP, port: 80}}]}}\n",
            random(3)
        ),
    }
}

/// What a file may hold.
fn content(random: &mut impl FnMut(usize) -> usize) -> Result<crate::source::Text, String> {
    match random(12) {
        0 => Err("permission denied".to_owned()),
        1 => Ok("# nothing\n".into()),
        2 => Ok("kind: [\n".into()),
        3 => Ok((object(random) + "---\n" + &object(random)).into()),
        _ => Ok(object(random).into()),
    }
}

/// What is accepted step by step is what would be accepted of all at once, whatever
/// of it came into force in between.
#[test]
fn random_changes_give_what_beginning_anew_gives() {
    let (mut refused, mut ambiguous, mut kept) = (0, 0, 0);
    for seed in 1..=20 {
        let mut random = random(seed);
        let mut acceptor = Acceptor::default();
        let mut assembler = Assembler::default();
        let mut shortfall = Shortfall::default();
        let mut files: BTreeMap<String, Result<crate::source::Text, String>> = BTreeMap::new();
        let mut last = Accepted::default();
        for step in 0..150 {
            for _ in 0..random(3) {
                let path = format!("{}.yaml", random(12));
                if random(4) == 0 {
                    files.remove(&path);
                } else {
                    files.insert(path, content(&mut random));
                }
            }
            let snapshot = Snapshot::of(files.iter().map(|(path, content)| SourceFile {
                path: path.as_str().into(),
                content: content.clone(),
            }));
            let accepted = acceptor.accept(&snapshot, &last);
            let anew = super::super::accept(&snapshot, &last);
            assert_eq!(accepted, anew, "seed {seed}, step {step}");
            let model = assembler.model(&accepted);
            assert_eq!(*model, anew.model(), "seed {seed}, step {step}");
            assert_eq!(*assembler.warnings(&accepted), *anew.warnings(&model));
            assert_eq!(*shortfall.of(&accepted), *anew.unenforced());
            refused += accepted.refused.len();
            ambiguous += accepted
                .problems
                .iter()
                .filter(|it| it.file.is_none())
                .count();
            kept += accepted
                .objects
                .iter()
                .filter(|it| it.stored == Stored::LastGood)
                .count();
            // What was accepted does not always come into force.
            if random(5) > 0 {
                last = accepted;
            }
        }
    }
    // It was not all too simple.
    assert!(
        refused > 100 && ambiguous > 100 && kept > 100,
        "{refused} {ambiguous} {kept}"
    );
}

#[test]
fn what_does_not_change_stays_shared() {
    let tier = |name: usize, order: usize| {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: t{name:04}}}\nspec: \
             {{order: {order}}}\n"
        );
        SourceFile {
            path: format!("{name:04}.yaml").into(),
            content: Ok(text.into()),
        }
    };
    let snapshot = Snapshot::of((0..1000).map(|name| tier(name, 1)));
    let mut acceptor = Acceptor::default();
    let first = acceptor.accept(&snapshot, &Accepted::default());
    let again = acceptor.accept(&snapshot, &first);
    assert!(again.objects.is_copy_of(&first.objects));
    let mut files = snapshot.files.clone();
    for order in [1, 2] {
        let changed = tier(500, order);
        files = Snapshot::of(files.iter().cloned().chain([changed])).files;
    }
    let later = acceptor.accept(&files.into(), &again);
    let changes = later.objects.changes_from(&first.objects);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].now.map(|it| &*it.named.name), Some("t0500"));
}
