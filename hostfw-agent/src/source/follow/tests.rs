use std::{fs::File, io::Write};

use super::*;

/// Far longer than a burst takes, so that only a lost event gets there.
const LOST: Duration = Duration::from_secs(5);

async fn changes(follower: &mut Follower) {
    tokio::time::timeout(LOST, follower.changed())
        .await
        .expect("the change is told");
}

async fn stays_quiet(follower: &mut Follower, for_long: Duration) {
    tokio::time::timeout(for_long, follower.changed())
        .await
        .expect_err("nothing changed that is complete");
}

#[tokio::test]
async fn a_file_that_is_written_moved_or_removed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    stays_quiet(&mut follower, Duration::from_millis(200)).await;

    let file = folder.path().join("a.yaml");
    fs::write(&file, "one").unwrap();
    changes(&mut follower).await;

    let hidden = folder.path().join(".a.tmp");
    fs::write(&hidden, "two").unwrap();
    fs::rename(&hidden, &file).unwrap();
    changes(&mut follower).await;

    fs::rename(&file, folder.path().join("b.yaml")).unwrap();
    changes(&mut follower).await;

    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    changes(&mut follower).await;
    stays_quiet(&mut follower, Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_change_can_be_asked_for_before_it_is_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    assert!(!follower.has_changed());
    fs::write(folder.path().join("a.yaml"), "one").unwrap();
    assert!(follower.has_changed());
    assert!(!follower.has_changed());
    stays_quiet(&mut follower, Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_burst_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    for n in 0..200 {
        fs::write(folder.path().join(format!("{n}.yaml")), "x").unwrap();
    }
    changes(&mut follower).await;
    stays_quiet(&mut follower, Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_file_being_written_is_known_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    let mut file = File::create(folder.path().join("a.yaml")).unwrap();
    file.write_all(b"half").unwrap();
    stays_quiet(&mut follower, Duration::from_millis(200)).await;
    assert_eq!(
        follower.being_written(),
        BTreeSet::from(["a.yaml".to_owned()])
    );
    file.write_all(b" and half").unwrap();
    drop(file);
    changes(&mut follower).await;
    assert_eq!(follower.being_written(), BTreeSet::new());
}

#[tokio::test]
async fn draining_tells_of_a_write_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    let mut file = File::create(folder.path().join("a.yaml")).unwrap();
    file.write_all(b"half").unwrap();
    let touched = follower.drain();
    assert_eq!(touched, BTreeSet::from(["a.yaml".to_owned()]));
    assert_eq!(follower.drain(), BTreeSet::new());
    assert_eq!(
        follower.being_written(),
        BTreeSet::from(["a.yaml".to_owned()])
    );
}

#[tokio::test]
async fn a_file_is_waited_for_until_its_writer_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    let mut file = File::create(folder.path().join("a.yaml")).unwrap();
    file.write_all(b"half").unwrap();
    stays_quiet(&mut follower, Duration::from_secs(3)).await;
    drop(file);
    changes(&mut follower).await;
}

#[tokio::test]
async fn a_link_is_told_although_nobody_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.path().join("a.yaml")).unwrap();
    changes(&mut follower).await;
    assert_eq!(follower.being_written(), BTreeSet::new());
}

#[tokio::test]
async fn the_folder_may_come_go_and_come_back() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("store");
    let mut follower = Follower::new(&folder).unwrap();
    stays_quiet(&mut follower, Duration::from_millis(100)).await;

    create_folder(&folder).unwrap();
    changes(&mut follower).await;
    fs::write(folder.join("a.yaml"), "x").unwrap();
    changes(&mut follower).await;

    fs::remove_dir_all(&folder).unwrap();
    changes(&mut follower).await;
    create_folder(&folder).unwrap();
    changes(&mut follower).await;
    fs::write(folder.join("a.yaml"), "x").unwrap();
    changes(&mut follower).await;

    fs::rename(&folder, parent.path().join("away")).unwrap();
    changes(&mut follower).await;
    // What happens to the folder that was moved away is no longer ours.
    fs::write(parent.path().join("away/b.yaml"), "x").unwrap();
    stays_quiet(&mut follower, Duration::from_millis(200)).await;
}

#[tokio::test]
async fn an_overflow_of_the_queue_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    let descriptor = follower.watch.as_ref().unwrap().descriptor.clone();
    let name = Some(OsStr::new("a.yaml"));
    follower.take(EventMask::MODIFY, &descriptor, name, Instant::now());
    follower.take(EventMask::Q_OVERFLOW, &descriptor, None, Instant::now());
    changes(&mut follower).await;
    // Its end may have been dropped.
    assert_eq!(follower.being_written(), BTreeSet::new());
}

#[tokio::test]
async fn a_link_in_the_path_that_is_switched_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(parent.path().join(name)).unwrap();
    }
    let link = parent.path().join("store");
    std::os::unix::fs::symlink("one", &link).unwrap();
    let mut follower = Follower::new(&link).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("two", &link).unwrap();
    follower.check(Instant::now());
    changes(&mut follower).await;
    fs::write(parent.path().join("two/a.yaml"), "x").unwrap();
    changes(&mut follower).await;
}

#[tokio::test]
async fn what_one_writer_stores_is_told_when_the_lock_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    let lock = File::create(folder.path().join(LOCK)).unwrap();
    lock.lock().unwrap();
    fs::write(folder.path().join("a.yaml"), "x").unwrap();
    // Far longer than a file by itself waits.
    stays_quiet(&mut follower, ALONE * 20).await;
    fs::write(folder.path().join("b.yaml"), "x").unwrap();
    drop(lock);
    changes(&mut follower).await;
    assert!(!follower.has_changed());
}

#[tokio::test]
async fn a_lock_that_is_never_let_go_of_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    let lock = File::create(folder.path().join(LOCK)).unwrap();
    lock.lock().unwrap();
    fs::write(folder.path().join("a.yaml"), "x").unwrap();
    changes(&mut follower).await;
}

#[tokio::test]
async fn a_file_on_its_way_into_place_is_no_change_yet() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path()).unwrap();
    let on_its_way = folder.path().join(".hostfw-new-1-0");
    fs::write(&on_its_way, "x").unwrap();
    stays_quiet(&mut follower, Duration::from_millis(200)).await;
    fs::rename(&on_its_way, folder.path().join("a.yaml")).unwrap();
    changes(&mut follower).await;
}
