//! The shape of the public network on 2026-02-03, as figures: 17,324 nodes, 50,808 channels.
//!
//! Source: the snapshot that Core Lightning keeps among its test data, counted by us. A table of quantiles holds the value
//! that a share of all lies below. Read next: `grow`.

/// Nodes and channels of that day.
pub const NODES: usize = 17_324;
/// The same.
pub const CHANNELS: usize = 50_808;

/// A value and the share below it, in ten-thousandths.
pub type Quantile = (u32, u64);

/// Channels of a node.
pub const DEGREES: [Quantile; 22] = [
    (0, 1),
    (5_000, 1),
    (5_500, 2),
    (6_000, 2),
    (6_500, 2),
    (7_000, 2),
    (7_500, 3),
    (8_000, 4),
    (8_500, 5),
    (9_000, 8),
    (9_250, 11),
    (9_500, 17),
    (9_700, 31),
    (9_800, 45),
    (9_850, 55),
    (9_900, 73),
    (9_930, 100),
    (9_960, 148),
    (9_980, 222),
    (9_990, 393),
    (9_995, 651),
    (10_000, 1_989),
];

/// Sat in a channel, in eighths; by how many channels the end with fewer has: up to 5, 35, 215, more. The first of a row is
/// what one in twenty-five lies below (the very least, 1,050 sat, says little of the others), the last such that the middle
/// of its step is right.
pub const CAPACITIES: [[u64; 9]; 4] = [
    [10_000, 20_000, 40_000, 100_000, 220_568, 500_000, 1_000_000, 2_111_098, 11_842_178],
    [10_000, 100_000, 973_449, 1_017_971, 2_000_000, 4_000_000, 5_000_000, 10_000_000, 40_000_000],
    [1_000_000, 2_000_000, 3_000_000, 5_000_000, 8_000_000, 10_000_000, 16_000_000, 50_000_000, 200_000_000],
    [
        2_000_000,
        5_000_000,
        10_000_000,
        20_000_000,
        50_000_000,
        50_000_000,
        150_000_000,
        300_000_000,
        500_000_000,
    ],
];

/// Fees in millionths of directions that are on, in twentieths.
pub const MILLIONTHS: [u64; 21] =
    [0, 0, 1, 1, 1, 1, 3, 10, 33, 80, 100, 188, 262, 428, 500, 569, 960, 1_113, 2_000, 3_000, 100_000];

/// Fixed fees, msat, and how many directions of 1,000 ask for them.
pub const BASES: [(u32, u32); 9] = [
    (0, 455),
    (1_000, 410),
    (1, 34),
    (500, 20),
    (100, 15),
    (2_000, 15),
    (5_000, 15),
    (10_000, 16),
    (200, 20),
];

/// Blocks, of 1,000.
pub const DELTAS: [(u16, u32); 8] =
    [(80, 400), (144, 190), (40, 180), (100, 115), (34, 70), (18, 25), (72, 12), (120, 8)];

/// Least HTLCs, msat, of 1,000.
pub const MINIMA: [(u64, u32); 6] =
    [(1_000, 800), (1, 104), (100_000, 29), (1_000_000, 24), (0, 18), (10_000, 25)];

/// Nodes of 1,000 all of whose channels are off, by their number of channels: up to 3, 15, 63, 255, more. Counted were 691, 411,
/// 161, 84, none; but nodes that are off are often joined to each other, and here all are joined by lot: with these, as many
/// directions are off as there.
pub const ASLEEP: [u32; 5] = [500, 290, 110, 55, 0];

/// Of 1,000 channels between nodes that are awake: one direction off, both off.
pub const ONE_OFF: u32 = 46;
/// The same.
pub const BOTH_OFF: u32 = 22;

/// Of 1,000 nodes' directions: as many ask for the node's own base, blocks, millionths.
pub const SAME_BASE: u32 = 500;
/// The same.
pub const SAME_DELTA: u32 = 450;
/// The same.
pub const SAME_MILLIONTHS: u32 = 350;
