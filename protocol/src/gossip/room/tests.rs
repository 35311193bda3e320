//! Who gets a place, and who is next.

use super::*;

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);
const C: LinkId = LinkId(3);

fn kept(room: &Room<u32, u32>, link: LinkId) -> usize {
    (0..2_000).filter(|key| room.get(link, key).is_some()).count()
}

fn fill(room: &mut Room<u32, u32>, link: LinkId, count: u32) {
    (0..count).for_each(|key| drop(room.put(link, key, 1, key)));
}

#[test]
fn a_link_has_its_share_and_the_heaviest_gives_way() {
    let mut room = Room::new(60, 100);
    fill(&mut room, A, 1_000);
    assert_eq!((kept(&room, A), room.len()), (60, 60));
    fill(&mut room, B, 1_000);
    assert_eq!((kept(&room, A), kept(&room, B)), (50, 50), "the first gave ten places up");
    fill(&mut room, C, 10);
    assert_eq!((kept(&room, C), room.len()), (10, 100));
    // Who has least always finds a place, the heaviest never one more.
    assert_eq!(room.put(C, 1_999, 1, 7).len(), 1);
    assert_eq!(kept(&room, C), 11);
    let heavy = [A, B].into_iter().max_by_key(|link| kept(&room, *link)).unwrap();
    assert_eq!(room.put(heavy, 1_998, 1, 7), [(heavy, 1_998, 7)]);
    // The first of a line stay, the last of it go.
    assert!(room.get(A, &0).is_some() && room.get(B, &0).is_some());
    // One big thing takes as many places as it weighs.
    assert_eq!(room.put(C, 1_997, 61, 7), [(C, 1_997, 7)]);
    assert_eq!(room.put(C, 1_996, 20, 7).len(), 20);
}

#[test]
fn each_link_has_its_turn() {
    let mut room = Room::new(60, 100);
    fill(&mut room, A, 50);
    fill(&mut room, B, 2);
    fill(&mut room, C, 1);
    let turns: Vec<(LinkId, u32)> =
        (0..5).filter_map(|_| room.next().map(|(link, key, _)| (link, key))).collect();
    assert_eq!(turns, [(A, 0), (B, 0), (C, 0), (A, 1), (B, 1)]);
    let mut left = 0;
    while room.next().is_some() {
        left += 1;
    }
    assert_eq!((left, room.len(), room.weight), (48, 0, 0));
}

#[test]
fn what_a_link_leaves_is_nobodys_and_has_one_share_together() {
    let mut room = Room::new(10, 100);
    for n in 0..50 {
        let link = LinkId(n);
        for key in 0..5 {
            room.put(link, n as u32 * 5 + key, 1, key);
        }
        room.leave(link);
    }
    assert_eq!((room.len(), kept(&room, NOBODY)), (10, 10));
    fill(&mut room, A, 5);
    assert_eq!(room.take_all(&3).len(), 2);
    room.retain(|value| *value != 4);
    assert!(room.get(A, &4).is_none());
    assert_eq!(room.clear(A).len(), 3);
    assert_eq!(room.len(), kept(&room, NOBODY));
}
