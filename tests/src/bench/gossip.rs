//! How long a chand takes to learn the whole public network from one peer, and to know it again after a start.
//!
//! In: a map of the network's size, put on a chain. Out: one JSON object: seconds, CPU time, memory, bytes. The peer is
//! chand's own gossip machine in this process, which knows everything and answers what it is asked; its signatures are true,
//! and every channel's output is looked up on the chain. Read next: `crowd`.

use super::chand::start_again;
use super::crowd::{gather, Crowd};
use super::machine::{load, peak_rss_mb, Used};
use crate::map::Map;
use crate::stranger::Stranger;
use crate::{Chain, Node};
use chand_protocol::chain::Network;
use chand_protocol::gossip::{Action, Event, Gossip, News, Settings};
use chand_protocol::id::{LinkId, NodeId};
use chand_protocol::units::Timestamp;
use chand_protocol::wire::features::{Feature, Features};
use chand_protocol::wire::message::Pong;
use chand_protocol::wire::Message;
use serde_json::{json, Value};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The peer's number among strangers.
const NUMBER: u8 = 9;
const LINK: LinkId = LinkId(1);
/// Bytes that are handed to the socket at once.
const ROOM_BYTES: usize = 256 * 1_024;
/// How long the peer listens when it has nothing to say.
const LISTEN: Duration = Duration::from_millis(5);
/// A cache that did not grow for so long holds what there is: it is written at least every second.
const QUIET: Duration = Duration::from_secs(5);
/// After so long it is given up.
const LONGEST: Duration = Duration::from_secs(900);
/// Nodes and channels of the short form.
const QUICK: (usize, usize) = (1_000, 3_000);

/// The whole measurement.
///
/// # Panics
/// When the node does not come up, or does not learn everything.
pub fn measure(base: &Path, quick: bool) -> Value {
    let dir = tempfile::Builder::new().prefix("chand-").tempdir_in(base).expect("a folder for the node");
    let chain = Chain::start(dir.path());
    let map = if quick { Map::grow(7, QUICK.0, QUICK.1) } else { Map::public_size(7) };
    eprintln!("{:>12}  {} channels are put on a chain and announced …", "gossip", map.roads.len());
    let crowd = gather(&map, &chain);
    let (channels, nodes, message_bytes) = (crowd.channels, crowd.nodes, crowd.message_bytes);
    let mut node = Node::start("Alice", dir.path(), &chain, &[]);
    node.wait_height(chain.height());
    let id = node.process().id();
    let idle_mb = peak_rss_mb(id);
    let before = Used::of(id);
    let begun = Instant::now();
    let (sent_bytes, took) = tell(&node, crowd, begun);
    let seconds = took.as_secs_f64();
    let used = Used::of(id).since(before);
    let synced_mb = peak_rss_mb(id);
    assert_eq!(known_channels(&node), channels * 2, "every direction is known");
    let known = node.call("listnodes", json!({}));
    let known = known["nodes"].as_array().expect("nodes");
    assert_eq!(known.len(), nodes, "every node is known");
    let named = known.iter().filter(|node| node["alias"].is_string()).count();
    assert_eq!(named, nodes, "every node said who it is");
    let start_ms = start_again(&mut node);
    let again_mb = peak_rss_mb(node.process().id());
    assert_eq!(known_channels(&node), channels * 2, "every direction is known again");
    eprintln!(
        "{:>12}  {channels} channels, {nodes} nodes: {seconds:.1} s, CPU {:.1} s, {synced_mb:.0} MB (idle {idle_mb:.0}); \
         start {start_ms:.0} ms, {again_mb:.0} MB",
        "gossip",
        used.cpu_ms / 1_000.0
    );
    json!({
        "kind": "gossip", "channels": channels, "nodes": nodes, "named_nodes": named, "message_bytes": message_bytes,
        "sent_bytes": sent_bytes, "seconds": seconds, "cpu_ms": used.cpu_ms, "peak_rss_mb": synced_mb,
        "idle_rss_mb": idle_mb, "start_ms": start_ms, "start_rss_mb": again_mb, "load": load(),
    })
}

fn known_channels(node: &Node) -> usize {
    node.call("listchannels", json!({}))["channels"].as_array().map_or(0, Vec::len)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    Timestamp(since.as_millis() as u64)
}

/// Answers the node until its cache holds nearly everything and grows no more; how many bytes that took, and how long
/// until it last grew.
fn tell(node: &Node, crowd: Crowd, begun: Instant) -> (u64, Duration) {
    let cache = node.data_dir().join("regtest").join("gossip.cache");
    let settings = Settings::new(Network::Regtest, NodeId(Stranger::id(NUMBER)));
    let mut gossip = Gossip::new(settings, crowd.store, now());
    let mut features = Features::ours_init(false);
    features.set(Feature::GossipQueries.odd());
    features.set(Feature::GossipQueriesEx.odd());
    let mut stranger = Stranger::greet_as(node, NUMBER, features.clone());
    let peer = NodeId(node.id().parse().expect("a node id"));
    let news = News::Linked { peer, link: LINK, features };
    let mut events = vec![Event::News(news)];
    let (mut sent_bytes, mut grown) = (0, (0, Duration::ZERO));
    let mut say = |stranger: &mut Stranger, bytes: &[u8]| {
        sent_bytes += bytes.len() as u64;
        stranger.say(bytes).expect("the node listens");
    };
    loop {
        while let Some(bytes) = stranger.hear_within(LISTEN).expect("the node stays") {
            match Message::decode(&bytes) {
                Ok(Message::Ping(ping)) => {
                    let pong = Message::Pong(Pong { byteslen: ping.num_pong_bytes });
                    say(&mut stranger, &pong.encode().expect("a pong"));
                }
                Ok(message) => events.push(Event::Message { peer, link: LINK, message }),
                Err(error) => panic!("the node said {bytes:?}: {error}"),
            }
        }
        for action in gossip.step(now(), events.drain(..)) {
            if let Action::Send(spoken) = action {
                say(&mut stranger, &spoken.into_parts().1);
            }
        }
        for spoken in
            gossip.hungry().into_iter().flat_map(|link| gossip.pump(link, ROOM_BYTES)).collect::<Vec<_>>()
        {
            say(&mut stranger, &spoken.into_parts().1);
        }
        let kept = std::fs::metadata(&cache).map_or(0, |file| file.len());
        if kept > grown.0 {
            grown = (kept, begun.elapsed());
        }
        let nearly = kept >= crowd.cache_bytes - crowd.cache_bytes / 20;
        if nearly && begun.elapsed() > grown.1 + QUIET {
            return (sent_bytes, grown.1);
        }
        assert!(begun.elapsed() < LONGEST, "{kept} of {} bytes are known", crowd.cache_bytes);
    }
}
