//! x
fn main() { println!("{}", lightning::ln::channelmanager::MIN_FINAL_CLTV_EXPIRY_DELTA); let _ = chand_protocol::gossip::graph::Graph::new(); }
