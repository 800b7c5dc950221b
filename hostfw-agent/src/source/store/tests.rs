use std::{fs, thread};

use super::*;
use crate::model::Kind;

const OWN: &str = "globalnetworkpolicy.a.yaml";

fn parse(text: &str) -> Resource {
    let contents = crate::source::contents::FileContents::parse(text);
    assert!(contents.errors.is_empty(), "{:?}", contents.errors);
    contents.objects[0].resource.clone()
}

fn policy(name: &str, order: u32) -> Resource {
    parse(&format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{order: {order}, types: [Egress]}}\n"
    ))
}

fn reference(name: &str) -> ObjectRef {
    ObjectRef {
        kind: Kind::GlobalNetworkPolicy,
        name: name.to_owned(),
    }
}

fn read(folder: &Path, file: &str) -> Resource {
    parse(&fs::read_to_string(folder.join(file)).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let snapshot = read_folder(folder).unwrap();
    snapshot
        .files
        .iter()
        .map(|file| file.path.to_string())
        .collect()
}

#[test]
fn object_goes_through_its_life() {
    let folder = tempfile::tempdir().unwrap();
    // Made if need be.
    let folder = &folder.path().join("deep/store");
    let mut writer = Writer::lock(folder).unwrap();
    assert_eq!(writer.create(policy("a", 1)).unwrap(), Change::Created);
    assert_eq!(names(folder), [OWN]);
    let first = read(folder, OWN).metadata().clone();
    assert_eq!(first.generation, Some(1));
    assert!(first.uid.is_some() && first.creation_timestamp.is_some());

    assert!(matches!(
        writer.create(policy("a", 1)),
        Err(StoreError::Exists(_))
    ));
    assert_eq!(writer.apply(policy("a", 1)).unwrap(), Change::Unchanged);
    assert_eq!(*read(folder, OWN).metadata(), first);

    assert_eq!(writer.apply(policy("a", 2)).unwrap(), Change::Updated);
    let second = read(folder, OWN).metadata().clone();
    assert_eq!(second.generation, Some(2));
    assert_eq!(second.uid, first.uid);
    assert_eq!(second.creation_timestamp, first.creation_timestamp);
    assert_ne!(second.resource_version, first.resource_version);

    writer.delete(&reference("a"), None).unwrap();
    assert!(names(folder).is_empty());
    assert!(matches!(
        writer.delete(&reference("a"), None),
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        writer.replace(policy("a", 1)),
        Err(StoreError::NotFound(_))
    ));
}

#[test]
fn generation_counts_spec_and_labels_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::lock(folder.path()).unwrap();
    writer.create(policy("a", 1)).unwrap();
    let generation = |writer: &mut Writer, resource: Resource| {
        assert_eq!(writer.apply(resource).unwrap(), Change::Updated);
        read(folder.path(), OWN).metadata().generation
    };
    let mut resource = policy("a", 1);
    resource
        .metadata_mut()
        .annotations
        .insert("note".to_owned(), "x".to_owned());
    assert_eq!(generation(&mut writer, resource.clone()), Some(1));
    resource
        .metadata_mut()
        .labels
        .insert("zone".to_owned(), "x".to_owned());
    assert_eq!(generation(&mut writer, resource), Some(2));
}

#[test]
fn older_version_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::lock(folder.path()).unwrap();
    writer.create(policy("a", 1)).unwrap();
    let old = read(folder.path(), OWN);
    writer.apply(policy("a", 2)).unwrap();

    for result in [writer.apply(old.clone()), writer.replace(old.clone())] {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("update conflict: GlobalNetworkPolicy(a)"));
        assert!(text.contains("metadata.resourceVersion"), "{text}");
    }
    assert!(matches!(
        writer.delete(&reference("a"), Some(&old)),
        Err(StoreError::Conflict { .. })
    ));
    let new = read(folder.path(), OWN);
    assert_eq!(new.metadata().generation, Some(2));

    // Removed and made anew: another object of the same name.
    writer.delete(&reference("a"), Some(&new)).unwrap();
    writer.create(policy("a", 2)).unwrap();
    let mut same_version = new;
    same_version.metadata_mut().resource_version = None;
    let error = writer.replace(same_version).unwrap_err().to_string();
    assert!(error.contains("metadata.uid"), "{error}");
}

#[test]
fn files_of_others_are_not_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name, order| yaml::to_yaml(&policy(name, order).to_value()).unwrap();
    let by_hand = text("a", 1) + "---\n" + &text("b", 1);
    fs::write(folder.path().join("mine.yaml"), &by_hand).unwrap();
    // The right name, but two objects.
    let shared = text("c", 1) + "---\n" + &text("d", 1);
    let shared_file = folder.path().join("globalnetworkpolicy.c.yaml");
    fs::write(&shared_file, &shared).unwrap();

    let mut writer = Writer::lock(folder.path()).unwrap();
    let results = [
        writer.apply(policy("a", 2)).map(drop),
        writer.replace(policy("b", 2)).map(drop),
        writer.create(policy("a", 2)).map(drop),
        writer.delete(&reference("b"), None),
    ];
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("mine.yaml"), "{error}");
    }
    let results = [
        writer.apply(policy("c", 2)).map(drop),
        writer.delete(&reference("c"), None),
        writer.apply(policy("d", 2)).map(drop),
    ];
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("globalnetworkpolicy.c.yaml"), "{error}");
    }
    assert_eq!(names(folder.path()).len(), 2);
    assert_eq!(
        fs::read_to_string(folder.path().join("mine.yaml")).unwrap(),
        by_hand
    );
    assert_eq!(fs::read_to_string(shared_file).unwrap(), shared);
}

#[test]
fn object_in_two_files_is_left_to_the_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::lock(folder.path()).unwrap();
    writer.create(policy("a", 1)).unwrap();
    drop(writer);
    fs::copy(folder.path().join(OWN), folder.path().join("copy.yaml")).unwrap();
    let mut writer = Writer::lock(folder.path()).unwrap();
    for error in [
        writer.apply(policy("a", 2)).unwrap_err(),
        writer.delete(&reference("a"), None).unwrap_err(),
    ] {
        assert!(error.to_string().contains("copy.yaml"), "{error}");
    }
}

#[test]
fn link_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("elsewhere");
    fs::write(&target, yaml::to_yaml(&policy("a", 1).to_value()).unwrap()).unwrap();
    let link = folder.path().join(OWN);
    for target in [target, folder.path().join("dangling")] {
        std::os::unix::fs::symlink(target, &link).unwrap();
        let mut writer = Writer::lock(folder.path()).unwrap();
        for error in [
            writer.apply(policy("a", 2)).unwrap_err(),
            writer.delete(&reference("a"), None).unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Link { .. }), "{error}");
        }
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn broken_file_of_the_object_can_be_mended_or_removed() {
    let folder = tempfile::tempdir().unwrap();
    let wrong_type = yaml::to_yaml(&policy("a", 1).to_value())
        .unwrap()
        .replace("order: 1", "order: high");
    for text in ["", "kind: [", wrong_type.as_str()] {
        fs::write(folder.path().join(OWN), text).unwrap();
        let mut writer = Writer::lock(folder.path()).unwrap();
        assert!(matches!(
            writer.create(policy("a", 1)),
            Err(StoreError::Exists(_))
        ));
        assert_eq!(writer.apply(policy("a", 1)).unwrap(), Change::Updated);
        assert_eq!(read(folder.path(), OWN).object_ref(), reference("a"));

        fs::write(folder.path().join(OWN), text).unwrap();
        drop(writer);
        let mut writer = Writer::lock(folder.path()).unwrap();
        writer.delete(&reference("a"), None).unwrap();
        assert!(names(folder.path()).is_empty());
    }
}

#[test]
fn names_never_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut writer = Writer::lock(&store).unwrap();
    for name in [
        "", ".", "..", "../a", "/etc/a", "a/b", "a..b", ".a", "-a", "A", "a\0", "a~b", "a\n", "ä",
    ] {
        let mut resource = policy("a", 1);
        resource.metadata_mut().name = name.to_owned();
        for result in [
            writer.apply(resource.clone()).map(drop),
            writer.create(resource).map(drop),
            writer.delete(&reference(name), None),
        ] {
            assert!(matches!(result, Err(StoreError::Name { .. })), "{name:?}");
        }
    }
    assert!(names(&store).is_empty());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn longest_names_have_a_file_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::lock(folder.path()).unwrap();
    let long = "a".repeat(252);
    for last in ["x", "y"] {
        let resource = policy(&format!("{long}{last}"), 1);
        assert_eq!(writer.apply(resource.clone()).unwrap(), Change::Created);
        assert_eq!(writer.apply(resource).unwrap(), Change::Unchanged);
    }
    assert_eq!(names(folder.path()).len(), 2);
    let too_long = reference(&"a".repeat(254));
    assert!(matches!(file_name(&too_long), Err(StoreError::Name { .. })));
}

#[test]
fn object_that_could_not_be_read_again_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::lock(folder.path()).unwrap();
    let mut resource = policy("a", 1);
    resource
        .metadata_mut()
        .annotations
        .insert("note".to_owned(), "x".repeat(17 << 20));
    let error = writer.apply(resource).unwrap_err().to_string();
    assert!(error.contains("at most 16777216 bytes"), "{error}");
    assert!(names(folder.path()).is_empty());

    let mut resource = policy("a", 1);
    let Resource::GlobalNetworkPolicy(policy) = &mut resource else {
        panic!("not a policy");
    };
    policy.spec.order = Some(f64::NAN);
    assert!(matches!(
        writer.apply(resource),
        Err(StoreError::Yaml { .. })
    ));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn what_a_killed_writer_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join(".hostfw-new-1-0");
    fs::write(&left, "half").unwrap();
    Writer::lock(folder.path()).unwrap();
    assert!(!left.exists());
}

#[test]
fn concurrent_writers_lose_no_update() {
    const WRITERS: u32 = 4;
    const ROUNDS: u32 = 10;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut writer = Writer::lock(path).unwrap();
    writer.create(policy("a", 0)).unwrap();
    drop(writer);

    // Each reads without a lock, adds one, and tries again on a conflict.
    let add_one = || {
        loop {
            let mut resource = read(path, OWN);
            let Resource::GlobalNetworkPolicy(policy) = &mut resource else {
                panic!("not a policy");
            };
            policy.spec.order = policy.spec.order.map(|order| order + 1.0);
            match Writer::lock(path).unwrap().replace(resource) {
                Ok(change) => return assert_eq!(change, Change::Updated),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| (0..ROUNDS).for_each(|_| add_one()));
        }
    });
    let Resource::GlobalNetworkPolicy(policy) = read(path, OWN) else {
        panic!("not a policy");
    };
    assert_eq!(policy.spec.order, Some(f64::from(WRITERS * ROUNDS)));
    assert_eq!(
        policy.metadata.generation,
        Some(u64::from(WRITERS * ROUNDS) + 1)
    );
}
