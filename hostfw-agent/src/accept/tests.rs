use super::*;
use crate::{model::Kind, source::SourceFile};

fn policy(name: &str, order: u32) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: {name}\n  \
         generation: {order}\nspec:\n  order: {order}\n  types: [Egress]\n  egress:\n  - action: Allow\n"
    )
}

/// Read without error, but not valid.
fn invalid(name: &str) -> String {
    policy(name, 99).replace("action: Allow", "action: Allow\n    ipVersion: 5")
}

const SYNTAX_ERROR: &str = "apiVersion: projectcalico.org/v3\nkind: [\n";

/// What is in force: name, order, whether it is the stored version.
fn in_force(accepted: &Accepted) -> Vec<(String, u64, Stored)> {
    let one = |object: &AcceptedObject| {
        let Object::Policy(policy) = &object.object else {
            panic!("not a policy");
        };
        assert_eq!(policy.name, object.named.name);
        let metadata = object.resource.resource().unwrap().metadata();
        (
            metadata.name.clone(),
            metadata.generation.unwrap(),
            object.stored,
        )
    };
    accepted.objects.iter().map(one).collect()
}

fn current(name: &str, order: u64) -> (String, u64, Stored) {
    (name.to_owned(), order, Stored::Current)
}

fn last_good(name: &str, order: u64) -> (String, u64, Stored) {
    (name.to_owned(), order, Stored::LastGood)
}

fn paths(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// Accepts, and checks that to accept the same again changes nothing.
fn accept_twice(files: &[(&str, &str)], last: &Accepted) -> Accepted {
    let snapshot = Snapshot::of_texts(files);
    let accepted = accept(&snapshot, last);
    assert_eq!(accept(&snapshot, &accepted), accepted);
    accepted
}

fn start(files: &[(&str, &str)]) -> Accepted {
    let accepted = accept_twice(files, &Accepted::default());
    assert_eq!(accepted.problems, []);
    accepted
}

#[test]
fn valid_files_are_in_force_and_go_with_their_file() {
    let both = policy("a", 1) + "---\n" + &policy("b", 2);
    let accepted = start(&[("x.yaml", &both), ("y.yaml", &policy("c", 3))]);
    assert_eq!(
        in_force(&accepted),
        [current("a", 1), current("b", 2), current("c", 3)]
    );
    assert_eq!(accepted.objects[0].files, paths(&["x.yaml"]));
    assert_eq!(accepted.model().policies.len(), 3);

    let accepted = accept_twice(&[("y.yaml", &policy("c", 4))], &accepted);
    assert_eq!(in_force(&accepted), [current("c", 4)]);
    assert_eq!(accepted.problems, []);
}

#[test]
fn object_may_move_to_another_file() {
    let accepted = start(&[("x.yaml", &policy("a", 1))]);
    let accepted = accept_twice(&[("y.yaml", &policy("a", 2))], &accepted);
    assert_eq!(in_force(&accepted), [current("a", 2)]);
    assert_eq!(accepted.objects[0].files, paths(&["y.yaml"]));
}

#[test]
fn broken_file_keeps_all_its_objects() {
    let both = policy("a", 1) + "---\n" + &policy("b", 2);
    let before = start(&[("x.yaml", &both), ("y.yaml", &policy("c", 3))]);
    let unreadable = Snapshot::of([SourceFile {
        path: "x.yaml".into(),
        content: Err("permission denied".to_owned()),
    }]);
    let mut states = vec![accept(&unreadable, &before)];
    for text in [SYNTAX_ERROR, "", "  \n# nothing\n---\n"] {
        states.push(accept_twice(&[("x.yaml", text)], &before));
    }
    for after in states {
        assert_eq!(in_force(&after), [last_good("a", 1), last_good("b", 2)]);
        assert_eq!(after.problems.len(), 1, "{:?}", after.problems);
        assert_eq!(after.problems[0].file.as_deref(), Some("x.yaml"));
        // They go when the file goes, or is whole again and without them.
        assert_eq!(in_force(&accept_twice(&[], &after)), []);
        let mended = accept_twice(&[("x.yaml", &policy("b", 4))], &after);
        assert_eq!(in_force(&mended), [current("b", 4)]);
        assert_eq!(mended.problems, []);
    }
}

#[test]
fn empty_file_that_never_held_anything_is_no_problem() {
    start(&[("x.yaml", ""), ("y.yaml", &policy("a", 1))]);
}

#[test]
fn empty_list_removes_what_the_file_held() {
    let before = start(&[("x.yaml", &policy("a", 1))]);
    let list = "apiVersion: v1\nkind: List\nitems: []\n";
    let after = accept_twice(&[("x.yaml", list)], &before);
    assert_eq!(in_force(&after), []);
    assert_eq!(after.problems, []);
}

#[test]
fn one_bad_document_does_not_hold_the_others_back() {
    let before = start(&[(
        "x.yaml",
        &[policy("a", 1), policy("b", 2), policy("c", 3)].join("---\n"),
    )]);
    let text = [policy("a", 4), invalid("b"), policy("d", 5)].join("---\n");
    let after = accept_twice(&[("x.yaml", &text)], &before);
    // `c` has vanished from a file with an error: it stays.
    assert_eq!(
        in_force(&after),
        [
            current("a", 4),
            last_good("b", 2),
            last_good("c", 3),
            current("d", 5)
        ]
    );
    assert_eq!(after.objects[1].stored_generation, Some(99));
    let [problem] = &after.problems[..] else {
        panic!("{:?}", after.problems);
    };
    assert_eq!(
        problem.object.as_ref().map(ToString::to_string).as_deref(),
        Some("GlobalNetworkPolicy(b)")
    );
    assert!(problem.message.starts_with("document 2: "), "{problem:?}");
    assert!(problem.message.contains("found 5"), "{problem:?}");

    let mended = accept_twice(&[("x.yaml", &policy("a", 4))], &after);
    assert_eq!(in_force(&mended), [current("a", 4)]);
}

#[test]
fn object_that_never_was_valid_is_refused_and_told() {
    let after = accept_twice(
        &[("x.yaml", &invalid("a")), ("y.yaml", &policy("b", 1))],
        &Accepted::default(),
    );
    assert_eq!(in_force(&after), [current("b", 1)]);
    let [refused] = &after.refused[..] else {
        panic!("{:?}", after.refused);
    };
    assert_eq!(refused.object.name, "a");
    assert_eq!(refused.files, paths(&["x.yaml"]));
    assert_eq!(refused.stored_generation, Some(99));
    assert_eq!(after.problems.len(), 1);
}

#[test]
fn object_with_a_wrong_type_is_known_by_name() {
    let before = start(&[("x.yaml", &policy("a", 1))]);
    let wrong = policy("a", 2).replace("order: 2", "order: high");
    // In another file, so that only the name can tell.
    let after = accept_twice(&[("y.yaml", &wrong)], &before);
    assert_eq!(in_force(&after), [last_good("a", 1)]);
}

#[test]
fn same_object_in_two_files_stays_as_it_was() {
    let before = start(&[("x.yaml", &policy("a", 1))]);
    let after = accept_twice(
        &[("x.yaml", &policy("a", 2)), ("y.yaml", &policy("a", 3))],
        &before,
    );
    assert_eq!(in_force(&after), [last_good("a", 1)]);
    let [problem] = &after.problems[..] else {
        panic!("{:?}", after.problems);
    };
    assert!(problem.message.contains("x.yaml (document 1)"));
    assert!(problem.message.contains("y.yaml (document 1)"));

    // One of the two becomes unreadable: it may still mean the object.
    let broken = accept_twice(
        &[("x.yaml", SYNTAX_ERROR), ("y.yaml", &policy("a", 3))],
        &after,
    );
    assert_eq!(in_force(&broken), [last_good("a", 1)]);

    let mended = accept_twice(&[("y.yaml", &policy("a", 3))], &broken);
    assert_eq!(in_force(&mended), [current("a", 3)]);
    assert_eq!(mended.problems, []);
}

#[test]
fn same_object_in_two_files_from_the_start_is_refused() {
    let files = [("x.yaml", policy("a", 1)), ("y.yaml", policy("a", 2))];
    let files = [("x.yaml", &*files[0].1), ("y.yaml", &*files[1].1)];
    let after = accept_twice(&files, &Accepted::default());
    assert_eq!(in_force(&after), []);
    assert_eq!(after.refused[0].files, paths(&["x.yaml", "y.yaml"]));
    assert!(after.problems[0].message.contains("none of them"));
}

#[test]
fn same_object_twice_in_one_file_is_told_by_document() {
    let text = policy("a", 1) + "---\n" + &policy("a", 2);
    let after = accept_twice(&[("x.yaml", &text)], &Accepted::default());
    assert_eq!(in_force(&after), []);
    let message = &after.problems[0].message;
    assert!(message.contains("x.yaml (document 1) and x.yaml (document 2)"));
}

#[test]
fn saved_state_is_loaded_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accepted.json");
    assert_eq!(load(&path).unwrap(), Accepted::default());

    let before = start(&[("x.yaml", &policy("a", 1)), ("y.yaml", &policy("b", 2))]);
    let files = [
        ("x.yaml", &*invalid("a")),
        ("y.yaml", &*policy("b", 3)),
        ("z.yaml", &*invalid("c")),
    ];
    let mut accepted = accept_twice(&files, &before);
    save(&path, &accepted).unwrap();
    let loaded = load(&path).unwrap();
    assert_eq!(accept(&Snapshot::of_texts(&files), &loaded), accepted);
    accepted.problems.clear();
    assert_eq!(loaded, accepted);
}

#[test]
fn saved_state_that_is_no_longer_valid_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accepted.json");
    save(&path, &start(&[("x.yaml", &policy("a", 1))])).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();

    std::fs::write(
        &path,
        text.replace("\"Allow\"", "\"Allow\", \"ipVersion\": 5"),
    )
    .unwrap();
    let loaded = load(&path).unwrap();
    assert_eq!(in_force(&loaded), []);
    assert!(
        loaded.problems[0]
            .message
            .contains("GlobalNetworkPolicy(a)")
    );

    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert!(matches!(load(&path), Err(LoadError::Content(_))));
    std::fs::write(&path, text.replace("\"version\":1", "\"version\":2")).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("version 2"));
}

fn set(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{nets: [10.0.0.1]}}\n"
    )
}

#[test]
fn objects_of_two_namespaces_are_two() {
    let files = [
        ("x.yaml", &*set("a", "s")),
        ("y.yaml", &*set("b", "s")),
        ("z.yaml", &*set("b", "t")),
    ];
    let accepted = start(&files);
    let names: Vec<_> = accepted
        .objects
        .iter()
        .map(|object| object.named.to_string())
        .collect();
    assert_eq!(
        names,
        ["NetworkSet(a/s)", "NetworkSet(b/s)", "NetworkSet(b/t)"]
    );
    for object in &accepted.objects {
        let named = object.named.clone();
        assert_eq!(accepted.object(&named), Some(object));
    }
    assert_eq!(
        accepted.object(&ObjectRef::new(Kind::NetworkSet, Some("a"), "t")),
        None
    );
    let twice = accept_twice(
        &[("x.yaml", &set("a", "s")), ("y.yaml", &set("a", "s"))],
        &accepted,
    );
    assert_eq!(twice.objects.len(), 1);
    assert_eq!(twice.objects[0].stored, Stored::LastGood);
}

#[test]
fn refused_objects_of_a_namespace_are_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accepted.json");
    let bad = set("a", "s").replace("10.0.0.1", "nonsense");
    let mut accepted = accept_twice(
        &[("x.yaml", &bad), ("y.yaml", &set("b", "s"))],
        &Accepted::default(),
    );
    assert_eq!(accepted.refused.len(), 1);
    save(&path, &accepted).unwrap();
    accepted.problems.clear();
    assert_eq!(load(&path).unwrap(), accepted);
}

#[test]
fn what_is_in_force_and_not_enforced_is_told() {
    let wildcard = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: h}\nspec: \
                    {node: n1, interfaceName: '*', profiles: [projectcalico-default-allow]}\n";
    let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: \
                  p}\nspec: {doNotTrack: true, applyOnForward: true, ingress: [{action: Allow, \
                  source: {services: {name: a, namespace: b}}}]}\n";
    let accepted = start(&[("x.yaml", policy), ("y.yaml", wildcard)]);
    let told: Vec<_> = accepted
        .unenforced()
        .into_iter()
        .map(|unenforced| (unenforced.about.name, unenforced.field))
        .collect();
    let field = |field: &str| ("p".to_owned(), field.to_owned());
    assert_eq!(
        told,
        [
            field("spec.doNotTrack"),
            field("spec.ingress[0].source.services")
        ]
    );
    assert_eq!(accepted.warnings(&accepted.model()), []);
}

#[test]
fn object_is_found_by_kind_and_name() {
    let accepted = start(&[("x.yaml", &policy("a", 1))]);
    let object = |kind| {
        accepted.object(&ObjectRef {
            kind,
            name: "a".to_owned(),
        })
    };
    assert!(object(Kind::GlobalNetworkPolicy).is_some());
    assert!(object(Kind::HostEndpoint).is_none());
}
