//! Names of a channel beside its place on chain: each end gives it one for the other to use (BOLT 2, "The `channel_ready`
//! Message", `short_channel_id`).
//!
//! In: the name that the node drew for it, the peer's `channel_ready`. Out: what the channel is called, and by whom. Who sends a
//! payment on looks a name up among those that *it* gave; so what we tell others of the hop from the peer to us (invoices, blinded
//! paths, our update for the peer) has the name that the *peer* gave. Of a channel of the type `option_scid_alias` nobody but its
//! ends learns the place on chain. Ours is drawn once and stays: whoever was ever told it may still use it.
//! Read next: `crate::node::alias`, which draws them and looks them up.

use crate::channel::{Channel, Context, Link, Out, Phase};
use crate::fault::{LocalFault, PeerFault};
use crate::id::ShortChannelId;
use crate::tx::ChannelType;
use crate::wire::features::{Feature, Features};
use serde::{Deserialize, Serialize};

/// Names that a peer may give one channel while one connection lasts; others change them a few times in a channel's life.
const MOST_RENAMES: u8 = 32;

/// The names of one channel, as they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Aliases {
    /// Ours, for payments that go on over the channel.
    pub(crate) ours: Option<ShortChannelId>,
    /// The newest of the peer's, for payments that come over it.
    pub(crate) theirs: Option<ShortChannelId>,
    /// How often the peer gave another name since the connection came up; not kept.
    #[serde(skip)]
    pub(crate) renamed: u8,
    /// Ours stands in a `channel_ready` that was sent. A cut may swallow one that is sent again only for it: the peer then
    /// goes on with what it knows.
    pub(crate) told: bool,
}

/// The bits of a channel type, `option_scid_alias` among them or not.
pub fn type_bits(kind: ChannelType, scid_alias: bool) -> Features {
    let mut bits = kind.to_features();
    if scid_alias {
        bits.set(Feature::ScidAlias.even());
    }
    bits
}

/// The type that exactly these bits mean, and whether `option_scid_alias` is part of it; `None` when chand has no such channels.
pub fn type_of(bits: &Features) -> Option<(ChannelType, bool)> {
    let kinds = [ChannelType::StaticRemotekey, ChannelType::Anchors];
    let all = kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    all.into_iter().find(|(kind, scid_alias)| type_bits(*kind, *scid_alias) == *bits)
}

impl Channel {
    /// The name we gave it, once it has one.
    pub const fn alias(&self) -> Option<ShortChannelId> {
        self.aliases.ours
    }

    /// The newest name that the peer gave it.
    pub const fn peer_alias(&self) -> Option<ShortChannelId> {
        self.aliases.theirs
    }

    /// Its place on chain, for others to see: of a channel of the type `option_scid_alias` there is none.
    fn open_place(&self) -> Option<ShortChannelId> {
        self.short_channel_id().filter(|_| !self.terms.scid_alias)
    }

    /// Whether an onion that names this is to go on over the channel.
    pub fn is_hop(&self, name: ShortChannelId) -> bool {
        // BOLT 2 [2.ready.6, 2.ready.7].
        self.alias() == Some(name) || self.open_place() == Some(name)
    }

    /// A name by which we send payments on over it.
    pub fn hop_name(&self) -> Option<ShortChannelId> {
        self.open_place().or(self.alias())
    }

    /// Whether we, our users or our peer may mean it by this name.
    pub fn is_called(&self, name: ShortChannelId) -> bool {
        self.alias() == Some(name) || self.short_channel_id() == Some(name)
    }

    /// What we call it among ourselves.
    pub fn own_name(&self) -> Option<ShortChannelId> {
        self.short_channel_id().or(self.alias())
    }

    /// How the peer knows it when it is to send a payment on to us.
    pub fn name_at_peer(&self) -> Option<ShortChannelId> {
        // BOLT 2 [2.ready.9]: a peer that names it by its place hides nothing, we do.
        let hides = |name: &ShortChannelId| !self.terms.scid_alias || self.short_channel_id() != Some(*name);
        self.peer_alias().filter(hides).or(self.open_place())
    }

    /// Gives it a name that nothing else has.
    pub(crate) fn set_alias(&mut self, name: ShortChannelId) {
        self.aliases.ours = Some(name);
        self.dirty.aliases = true;
    }

    /// What the peer calls it from now on.
    ///
    /// # Errors
    /// It changes its mind too often: each change is a write to our disk, and the last name stays.
    pub(crate) fn take_peer_alias(&mut self, name: Option<ShortChannelId>) -> Result<(), PeerFault> {
        if name.is_none() || name == self.peer_alias() {
            return Ok(());
        }
        if self.aliases.renamed >= MOST_RENAMES {
            return Err(PeerFault::warn("too many names for one channel"));
        }
        self.aliases.renamed += 1;
        self.aliases.theirs = name;
        self.dirty.aliases = true;
        Ok(())
    }

    /// A channel from before there were aliases: the peer hears of ours in a `channel_ready` that says nothing new
    /// otherwise ("MAY send `channel_ready` with a different `short_channel_id` `alias` field").
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub(crate) fn tell_alias(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let due = self.ready == (true, true) && !self.aliases.told && self.alias().is_some();
        // BOLT 2 [2.again.24].
        if due && self.link == Link::Up && self.phase == Phase::Open {
            let message = self.ready_message(cx)?;
            self.alias_told();
            self.send(message, out);
        }
        Ok(())
    }

    pub(crate) fn alias_told(&mut self) {
        self.dirty.aliases |= !self.aliases.told;
        self.aliases.told = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_with_and_without_an_alias_are_told_apart_and_others_are_none() {
        // BOLT 2 [2.open.12, 2.open.13].
        for kind in [ChannelType::StaticRemotekey, ChannelType::Anchors] {
            for scid_alias in [false, true] {
                let bits = type_bits(kind, scid_alias);
                assert_eq!(type_of(&bits), Some((kind, scid_alias)));
                assert_eq!(bits.is_set(46), scid_alias);
            }
        }
        for bits in [&[46][..], &[12, 47], &[22, 46], &[12, 46, 50], &[12, 22, 46, 47], &[]] {
            assert_eq!(type_of(&Features::of(bits)), None, "{bits:?}");
        }
    }
}
