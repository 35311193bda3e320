//! Feature bits (BOLT 9): what a peer offers, what it insists on, and which type a channel has.
//!
//! In: a bit field off the wire, an invoice or the disk. Out: the same as a set of bits, with the rules about it.
//! Read next: `layout` (where features travel), then `node` (what is done about a peer's).

use crate::id::to_hex;
use crate::tx::ChannelType;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// A feature vector; bit 0 is the lowest bit of the last byte on the wire. Kept without leading zero bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<u8>")]
pub struct Features(Vec<u8>);

/// Where a feature is shown (BOLT 9, the "Context" column).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// `init` (I).
    Init,
    /// `node_announcement` (N).
    NodeAnnouncement,
    /// A BOLT 11 invoice (9).
    Invoice,
    /// `channel_type` (T).
    ChannelType,
}

macro_rules! features {
    ($($bit:literal $feature:ident $name:literal [$($context:ident)*] [$($needs:ident)*])*) => {
        /// The features of BOLT 9 (and of bLIP 2: `keysend`, `bolt11_blinded_path`), each with its even bit as its number.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u16)]
        pub enum Feature {
            $(
                #[doc = concat!("`", $name, "`, bits ", stringify!($bit), " and the next.")]
                $feature = $bit,
            )*
        }

        impl Feature {
            /// Every feature, lowest bit first.
            pub const ALL: &'static [Feature] = &[$(Feature::$feature),*];

            /// Its name in BOLT 9.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Feature::$feature => $name,)*
                }
            }

            /// Where it is shown. Those that BOLT 9 calls ASSUMED are still shown where they used to be, because
            /// peers look for them.
            pub const fn contexts(self) -> &'static [Context] {
                match self {
                    $(Feature::$feature => &[$(Context::$context),*],)*
                }
            }

            /// What must be set with it (BOLT 9, the "Dependencies" column).
            pub const fn depends_on(self) -> &'static [Feature] {
                match self {
                    $(Feature::$feature => &[$(Feature::$needs),*],)*
                }
            }
        }
    };
}

features! {
    0 DataLossProtect "option_data_loss_protect" [Init NodeAnnouncement] []
    4 UpfrontShutdownScript "option_upfront_shutdown_script" [Init NodeAnnouncement] []
    6 GossipQueries "gossip_queries" [Init NodeAnnouncement] []
    8 VarOnion "var_onion_optin" [Init NodeAnnouncement Invoice] []
    10 GossipQueriesEx "gossip_queries_ex" [Init NodeAnnouncement] []
    12 StaticRemotekey "option_static_remotekey" [Init NodeAnnouncement ChannelType] []
    14 PaymentSecret "payment_secret" [Init NodeAnnouncement Invoice] []
    16 BasicMpp "basic_mpp" [Init NodeAnnouncement Invoice] [PaymentSecret]
    18 LargeChannel "option_support_large_channel" [Init NodeAnnouncement] []
    22 Anchors "option_anchors" [Init NodeAnnouncement ChannelType] []
    24 RouteBlinding "option_route_blinding" [Init NodeAnnouncement Invoice] []
    26 ShutdownAnysegwit "option_shutdown_anysegwit" [Init NodeAnnouncement] []
    28 DualFund "option_dual_fund" [Init NodeAnnouncement] []
    34 Quiesce "option_quiesce" [Init NodeAnnouncement] []
    36 AttributionData "option_attribution_data" [Init NodeAnnouncement Invoice] []
    38 OnionMessages "option_onion_messages" [Init NodeAnnouncement] []
    42 ProvideStorage "option_provide_storage" [Init NodeAnnouncement] []
    44 ChannelType "option_channel_type" [Init NodeAnnouncement] []
    46 ScidAlias "option_scid_alias" [Init NodeAnnouncement ChannelType] []
    48 PaymentMetadata "option_payment_metadata" [Invoice] []
    50 Zeroconf "option_zeroconf" [Init NodeAnnouncement ChannelType] [ScidAlias]
    54 Keysend "keysend" [NodeAnnouncement] []
    60 SimpleClose "option_simple_close" [Init NodeAnnouncement] [ShutdownAnysegwit]
    62 Splice "option_splice" [Init NodeAnnouncement] []
    262 Bolt11BlindedPath "bolt11_blinded_path" [Invoice] [RouteBlinding]
}

/// What chand implements: a peer may insist on any of these.
const IMPLEMENTED: [Feature; 17] = [
    Feature::DataLossProtect,
    Feature::UpfrontShutdownScript,
    Feature::GossipQueries,
    Feature::GossipQueriesEx,
    Feature::VarOnion,
    Feature::StaticRemotekey,
    Feature::PaymentSecret,
    Feature::BasicMpp,
    Feature::LargeChannel,
    Feature::Anchors,
    Feature::RouteBlinding,
    Feature::ShutdownAnysegwit,
    Feature::ProvideStorage,
    Feature::ChannelType,
    Feature::ScidAlias,
    Feature::Keysend,
    Feature::SimpleClose,
];

impl Feature {
    /// The bit that says "required".
    pub const fn even(self) -> u16 {
        self as u16
    }

    /// The bit that says "supported".
    pub const fn odd(self) -> u16 {
        self as u16 + 1
    }

    /// Whether it is shown in `context`.
    pub fn shown_in(self, context: Context) -> bool {
        self.contexts().contains(&context)
    }
}

impl Features {
    /// No feature at all.
    pub const fn new() -> Features {
        Features(Vec::new())
    }

    /// The set of `bits`.
    pub fn of(bits: &[u16]) -> Features {
        let mut features = Features::new();
        bits.iter().for_each(|bit| features.set(*bit));
        features
    }

    /// What chand says in `init`.
    ///
    /// Even where peers insist and chand could not do without; `keysend` is for `node_announcement` only.
    pub fn ours_init(simple_close: bool) -> Features {
        // BOLT 1 [1.init.3, 1.init.4].
        let mut ours = Features::new();
        for required in [
            Feature::DataLossProtect,
            Feature::VarOnion,
            Feature::StaticRemotekey,
            Feature::PaymentSecret,
            Feature::ChannelType,
        ] {
            ours.set(required.even());
        }
        for offered in [
            Feature::UpfrontShutdownScript,
            Feature::BasicMpp,
            Feature::LargeChannel,
            Feature::Anchors,
            Feature::RouteBlinding,
            Feature::ShutdownAnysegwit,
            Feature::ScidAlias,
        ] {
            ours.set(offered.odd());
        }
        if simple_close {
            ours.set(Feature::SimpleClose.odd());
        }
        ours
    }

    /// Reads a bit field; leading zero bytes mean nothing and are dropped.
    pub fn parse(bytes: &[u8]) -> Features {
        // BOLT 2 [2.open.13].
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Features(bytes.iter().skip(zeros).copied().collect())
    }

    /// The bit field in as few bytes as it takes (BOLT 1: "SHOULD use the minimum length required").
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Clears a bit.
    pub fn unset(&mut self, bit: u16) {
        if let Some(byte) = self.0.iter_mut().rev().nth(usize::from(bit / 8)) {
            *byte &= !(1 << (bit % 8));
        }
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        self.0.drain(..zeros);
    }

    /// Sets one bit.
    pub fn set(&mut self, bit: u16) {
        let from_end = usize::from(bit / 8);
        // BOLT 1 [1.init.1].
        if self.0.len() <= from_end {
            let mut longer = vec![0; from_end + 1 - self.0.len()];
            longer.append(&mut self.0);
            self.0 = longer;
        }
        if let Some(byte) = self.0.iter_mut().rev().nth(from_end) {
            *byte |= 1 << (bit % 8);
        }
    }

    /// Whether exactly this bit is set.
    pub fn is_set(&self, bit: u16) -> bool {
        self.0.iter().rev().nth(usize::from(bit / 8)).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// Every bit that is set, lowest first.
    pub fn bits(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(self.0.iter().rev()).flat_map(|(at, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit)
        })
    }

    /// Whether the feature is offered at all, by either of its bits.
    pub fn supports(&self, feature: Feature) -> bool {
        self.is_set(feature.even()) || self.is_set(feature.odd())
    }

    /// Whether the pair that `bit` belongs to is required. Both bits set count as required (BOLT 9).
    pub fn requires(&self, bit: u16) -> bool {
        self.is_set(bit & !1)
    }

    /// Whether the feature is in force between us (`self`) and a peer whose `init` said `theirs`:
    /// "either both peers offered it, or the local node offered it as even" (BOLT 1, "The `init` Message").
    pub fn negotiated(&self, theirs: &Features, feature: Feature) -> bool {
        self.requires(feature.even()) || self.supports(feature) && theirs.supports(feature)
    }

    /// The lowest required bit of a feature that chand does not implement: the connection must be closed (BOLT 1).
    pub fn unknown_even(&self) -> Option<u32> {
        self.bits().find(|bit| bit % 2 == 0 && !IMPLEMENTED.iter().any(|f| u32::from(f.even()) == *bit))
    }

    /// The lowest required bit of no feature that BOLT 9 has. A node that asks for one is nobody's way; what it asks of its
    /// peers alone is not the payer's matter, implemented here or not.
    pub fn unheard_of(&self) -> Option<u32> {
        self.bits().find(|bit| bit % 2 == 0 && !Feature::ALL.iter().any(|f| u32::from(f.even()) == *bit))
    }

    /// The lowest required bit of a feature that `ours` does not offer: stricter than [`Features::unknown_even`]
    /// when something implemented is switched off.
    pub fn required_beyond(&self, ours: &Features) -> Option<u32> {
        let offered = |bit: u32| u16::try_from(bit).is_ok_and(|bit| ours.is_set(bit) || ours.is_set(bit | 1));
        // BOLT 1 [1.init.9].
        self.bits().find(|bit| bit % 2 == 0 && !offered(*bit))
    }

    /// A feature that is set without one it depends on, and that one: the connection must be closed (BOLT 1).
    pub fn missing_dependency(&self) -> Option<(Feature, Feature)> {
        let offered = Feature::ALL.iter().filter(|feature| self.supports(**feature));
        offered
            .flat_map(|feature| feature.depends_on().iter().map(move |needed| (*feature, *needed)))
            .find(|(_, needed)| !self.supports(*needed))
    }

    /// Adds every bit of `other`.
    pub fn or(&mut self, other: &Features) {
        if self.0.len() < other.0.len() {
            let shorter = core::mem::replace(&mut self.0, other.0.clone());
            return self.or(&Features(shorter));
        }
        self.0.iter_mut().rev().zip(other.0.iter().rev()).for_each(|(ours, theirs)| *ours |= theirs);
    }
}

impl From<Vec<u8>> for Features {
    fn from(bytes: Vec<u8>) -> Features {
        Features::parse(&bytes)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl ChannelType {
    /// The type that exactly these bits mean, or `None` when chand has no such channels.
    pub fn from_features(features: &Features) -> Option<ChannelType> {
        [ChannelType::StaticRemotekey, ChannelType::Anchors]
            .into_iter()
            .find(|kind| kind.to_features() == *features)
    }

    /// The bits that mean this type.
    pub fn to_features(self) -> Features {
        match self {
            ChannelType::StaticRemotekey => Features::of(&[Feature::StaticRemotekey.even()]),
            ChannelType::Anchors => Features::of(&[Feature::StaticRemotekey.even(), Feature::Anchors.even()]),
        }
    }
}
