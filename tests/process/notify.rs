//! What a service manager hears of a node: that it is ready, that it is alive, that it stops.

use chand_tests::wait::PATIENCE;
use chand_tests::{Client, World};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// The next word.
fn heard(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 1_024];
    let n = manager.recv(&mut bytes).expect("a word in time");
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

fn manager(path: &Path) -> UnixDatagram {
    let manager = UnixDatagram::bind(path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a time");
    manager
}

#[test]
fn it_is_ready_alive_and_stopping_in_this_order() {
    let mut world = World::new();
    let path = world.dir.path().join("notify");
    let manager = manager(&path);
    world.alice.stop();
    // The shell becomes chand: the process that is watched is this one.
    let environment = format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=400000 WATCHDOG_PID=$$", path.display());
    world.alice.set_before(&environment);
    world.alice.spawn();
    let ready = heard(&manager);
    assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
    // No waiting: who is told that it is ready may ask.
    Client::connect(&world.alice.socket())
        .expect("it answers")
        .call("getinfo", serde_json::json!({}))
        .expect("it answers");
    for _ in 0..3 {
        assert_eq!(heard(&manager), "WATCHDOG=1");
    }
    world.alice.process().signal("TERM");
    let last =
        std::iter::repeat_with(|| heard(&manager)).find(|word| word != "WATCHDOG=1").expect("a last word");
    assert!(last.starts_with("STOPPING=1\nSTATUS="), "{last}");
    assert!(world.alice.process().wait_end(PATIENCE).success());
}
