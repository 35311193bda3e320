//! After a cut: where does each side stand, and what must be said again (BOLT 2, "Message Retransmission").
//!
//! In: a new link, the peer's `channel_reestablish`. Out: ours, and the messages the peer never got, in the order
//! they were first sent. Signatures are made again from the same state: being deterministic, they are the same.
//! Read next: `close`.

use crate::channel::ledger::View;
use crate::channel::{Channel, Context, Link, Out, Phase, Sent};
use crate::fault::{LocalFault, PeerFault, Trouble};
use crate::id::Side;
use crate::node::effect::Level;
use crate::wire::message::ChannelReestablish;
use crate::wire::Message;
use alloc::format;
use alloc::vec::Vec;

/// What the peer has not got.
struct Missing {
    revocation: bool,
    commitment: bool,
}

impl Channel {
    /// A link is up and features are exchanged: tells the peer where we stand.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub fn relink(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        // BOLT 2 [2.again.3, 2.again.5].
        self.unlink();
        let message = self.reestablish_message(cx)?;
        self.link = Link::Syncing;
        out.messages.push(message);
        Ok(())
    }

    /// The channel is over, and the peer believes in it: our `channel_reestablish` proves how far it came.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub(crate) fn tell_where_we_stand(&self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        // Of one that is long over the peer's secrets are deleted.
        if matches!(self.phase, Phase::Onchain(_)) && !self.retired {
            out.messages.push(self.reestablish_message(cx)?);
        }
        Ok(())
    }

    fn reestablish_message(&self, cx: &Context<'_>) -> Result<Message, LocalFault> {
        let commits = &self.commits;
        // BOLT 2 [2.again.10, 2.again.11].
        let last_secret = commits
            .remote_number
            .checked_sub(1)
            .and_then(|n| commits.remote_secrets.get(n))
            .map_or([0; 32], |secret| secret.secret_bytes());
        // BOLT 2 [2.again.9].
        let point = self.local_point(commits.local_number, cx.crypto);
        Ok(Message::ChannelReestablish(ChannelReestablish {
            channel_id: self.id(),
            // BOLT 2 [2.again.7].
            next_commitment_number: commits.local_number + 1,
            // BOLT 2 [2.again.8].
            next_revocation_number: commits.remote_number,
            your_last_per_commitment_secret: last_secret,
            my_current_per_commitment_point: point?,
        }))
    }

    /// `channel_reestablish`.
    pub(crate) fn on_reestablish(
        &mut self,
        m: &ChannelReestablish,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        if self.link != Link::Syncing {
            return Err(PeerFault::warn("channel_reestablish out of place").into());
        }
        if self.is_lost() {
            // BOLT 2 [2.again.30].
            return Err(
                PeerFault::disconnect("this node lost its state of this channel: please close it").into()
            );
        }
        let missing = match self.check_reestablish(m) {
            // The peer may forget a channel once it has the closing transaction; LDK then says that it knows nothing.
            Err(_) | Ok(None) if matches!(self.phase, Phase::Closed(_)) => {
                self.link = Link::Down;
                return Ok(());
            }
            Err(trouble) => return Err(trouble),
            // It is known already, and may be so though the peer can prove nothing.
            Ok(Some(_)) if self.doubt => {
                return Err(PeerFault::disconnect("this node lost state: please close the channel").into());
            }
            Ok(Some(missing)) => missing,
            Ok(None) => {
                // BOLT 2 [2.again.30].
                self.doubt = true;
                self.dirty.state = true;
                out.notice(
                    Level::Error,
                    "the peer proved to know a later state of this channel than this node does: it was probably \
                     restored from an old copy. Its commitment will not be published; the peer is asked to close.",
                );
                // The error asks the peer to close; ours stays unpublished.
                return Err(PeerFault::disconnect("this node lost state: please close the channel").into());
            }
        };
        let again = self.messages_again(m, &missing, cx)?;
        self.link = Link::Up;
        out.messages.extend(again);
        self.relink_close(out);
        Ok(())
    }

    /// What the peer misses; `None` when it proved that *we* do.
    fn check_reestablish(&self, m: &ChannelReestablish) -> Result<Option<Missing>, Trouble> {
        // BOLT 2 [2.again.29].
        let commits = &self.commits;
        if let Some(last) = m.next_revocation_number.checked_sub(1) {
            // Whoever knows the secret of a commitment we believe unrevoked has a later state than we.
            let expected = self
                .secrets
                .per_commitment_secret(last)
                .map_err(|_| PeerFault::disconnect("channel_reestablish: no commitment has such a number"))?;
            let known = expected.secret_bytes() == m.your_last_per_commitment_secret;
            if m.next_revocation_number > commits.local_number {
                return if known {
                    Ok(None)
                } else {
                    Err(PeerFault::disconnect("channel_reestablish: a revocation we never sent").into())
                };
            }
            if !known {
                return Err(PeerFault::disconnect("channel_reestablish: wrong last secret").into());
            }
        }
        let revocation = match commits.local_number - m.next_revocation_number {
            0 => false,
            1 => true,
            _ => return Err(PeerFault::fail("channel_reestablish: the peer lost revocations of ours").into()),
        };
        let signed = commits.remote_number + u64::from(commits.awaiting_revoke);
        let commitment = if m.next_commitment_number == signed + 1 {
            false
        } else if commits.awaiting_revoke && m.next_commitment_number == signed {
            true
        } else if m.next_commitment_number > signed + 1 {
            return Err(PeerFault::disconnect("channel_reestablish: a commitment we never signed").into());
        } else {
            // BOLT 2 [2.again.22].
            return Err(PeerFault::fail("channel_reestablish: the peer lost commitments of ours").into());
        };
        Ok(Some(Missing { revocation, commitment }))
    }

    /// Everything to say again, in order.
    fn messages_again(
        &self,
        m: &ChannelReestablish,
        missing: &Missing,
        cx: &Context<'_>,
    ) -> Result<Vec<Message>, LocalFault> {
        let mut again = Vec::new();
        // "if next_commitment_number is 1 in both the channel_reestablish it sent and received:
        // MUST retransmit channel_ready."
        // BOLT 2 [2.again.23, 2.again.24].
        if self.ready.0 && m.next_commitment_number == 1 && self.commits.local_number == 0 {
            again.push(self.ready_message(cx)?);
        }
        // BOLT 2 [2.again.27].
        let revocation = if missing.revocation { Some(self.last_revocation(cx)?) } else { None };
        // BOLT 2 [2.again.28].
        if self.commits.commit_was_last {
            again.extend(revocation);
            self.commitment_again(missing.commitment, cx, &mut again)?;
        } else {
            self.commitment_again(missing.commitment, cx, &mut again)?;
            again.extend(revocation);
        }
        // Updates no commitment covers yet.
        again.extend(
            self.log.iter().filter(|(_, committed)| !committed).filter_map(|(s, _)| self.sent_message(*s)),
        );
        Ok(again)
    }

    /// The updates of the last commitment we signed, and that commitment.
    fn commitment_again(
        &self,
        missing: bool,
        cx: &Context<'_>,
        again: &mut Vec<Message>,
    ) -> Result<(), LocalFault> {
        let Some(point) = self.commits.remote_next_point.filter(|_| missing) else { return Ok(()) };
        again.extend(
            self.log.iter().filter(|(_, committed)| *committed).filter_map(|(s, _)| self.sent_message(*s)),
        );
        let spec = self.spec(View::Signed(Side::Remote))?;
        // BOLT 2 [2.again.26].
        again.push(self.sign_commitment(self.commits.remote_number + 1, &point, &spec, cx)?.0);
        Ok(())
    }

    fn sent_message(&self, sent: Sent) -> Option<Message> {
        match sent {
            Sent::Add(id) => {
                let id = crate::id::HtlcId { offered_by: Side::Local, id };
                self.add_message(self.ledger.htlcs.get(&id)?)
            }
            Sent::Remove(id) => self.removal_message(id),
            Sent::Fee(feerate) => Some(self.fee_message(feerate)),
        }
    }

    /// One line for a person: what this channel waits for.
    pub fn status_line(&self, tip: crate::units::Height) -> alloc::string::String {
        let link = match self.link {
            Link::Down => "the peer is not connected",
            Link::Syncing => "waiting for the peer's channel_reestablish",
            Link::Up => "connected",
        };
        match &self.phase {
            Phase::Confirming => {
                let (have, need) = (self.depth(tip), self.terms.minimum_depth);
                format!("waiting for the funding transaction: {have} of {need} confirmations; {link}")
            }
            Phase::Open if self.is_lost() => {
                format!("restored from a backup without its state: waiting for the peer to close it; {link}")
            }
            Phase::Open if self.doubt => {
                format!("this node's records of it are an old copy: waiting for the peer to close it; {link}")
            }
            Phase::Open => format!("open; {link}"),
            Phase::Closing(c) => format!("closing: {}; {link}", c.status()),
            Phase::Closed(c) => match c.height {
                Some(height) => format!("closed by agreement in {height}"),
                None => "waiting for the closing transaction to confirm".into(),
            },
            Phase::Onchain(o) => format!("closed on chain: {}", o.trigger),
        }
    }
}
