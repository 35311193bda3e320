//! What both sides must do, in words of the map: channels and nodes are numbers.
//!
//! In: a payment to find a way for; how its parts ended. Out: the parts. Read next: `ours`, `ldk`.

/// What is to be found.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub payer: u32,
    pub payee: u32,
    pub amount_msat: u64,
    pub max_fee_msat: u64,
    /// Parts allowed.
    pub parts: usize,
    /// Seconds since the epoch.
    pub now_s: u64,
}

/// A channel on the way, and what goes over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    pub road: usize,
    /// 0: from the road's first end to its second.
    pub way: usize,
    pub amount_msat: u64,
}

/// One part.
#[derive(Clone, Debug)]
pub struct Part {
    pub legs: Vec<Leg>,
    pub amount_msat: u64,
    pub fee_msat: u64,
}

/// A router with its scores.
pub trait Side {
    fn name(&self) -> &'static str;
    /// The parts of a payment; `None` when there is no way. The router remembers them by their place.
    fn find(&mut self, ask: &Ask) -> Option<Vec<Part>>;
    /// A part of the last answer found too little at leg `at`.
    fn failed(&mut self, part: usize, at: usize, now_s: u64);
    /// A part of the last answer arrived, and is held until the others did.
    fn held(&mut self, part: usize, now_s: u64);
    /// All that is held was taken, or given back; nothing is held any more.
    fn ended(&mut self, taken: bool, now_s: u64);
}
