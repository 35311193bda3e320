//! Opening a channel, version 1 of establishment (BOLT 2, "Channel Establishment v1").
//!
//! ```text
//!  opener                         accepter
//!    | open_channel       ──────────► |
//!    | ◄──────────     accept_channel |
//!    | (wallet builds the funding tx) |
//!    | funding_created    ──────────► |   (accepter keeps the channel, then answers)
//!    | ◄──────────     funding_signed |   (opener keeps the channel, then publishes)
//! ```
//! In: the four messages and the wallet's transaction. Out: a [`Channel`] in phase `Confirming`. Until then nothing
//! is kept: a cut on the way leaves no channel, and coins that the wallet set aside are freed.
//! Read next: `confirm`.

use crate::channel::alias::{type_bits, type_of, Aliases};
use crate::channel::commit::{Commits, SnapshotEntry};
use crate::channel::keyring::KeyRing;
use crate::channel::ledger::{Ledger, View};
use crate::channel::policy::Policy;
use crate::channel::save::Dirty;
use crate::channel::terms::{Party, Terms};
use crate::channel::tower::Notes;
use crate::channel::{key_fault, Channel, Context, Link, Phase};
use crate::fault::{local, LocalFault, PeerFault, Trouble};
use crate::id::{ChannelId, CommandId, NodeId, Side};
use crate::node::effect::FundedTx;
use crate::node::view::Stats;
use crate::tx::close::may_accept_shutdown;
use crate::tx::commitment::build;
use crate::tx::keys::{Basepoints, ChannelSecrets};
use crate::tx::script;
use crate::tx::shachain::SecretStore;
use crate::tx::weight::funder_cost;
use crate::tx::ChannelType;
use crate::units::{Feerate, Msat, Sat};
use crate::wire::features::Features;
use crate::wire::message::{AcceptChannel, FundingCreated, FundingSigned, OpenChannel};
use alloc::format;
use bitcoin::{OutPoint, ScriptBuf};
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;

/// Smallest dust limit that BOLT 2 lets a peer have on Bitcoin.
pub const MIN_DUST_LIMIT: Sat = Sat(354);
/// Largest dust limit we accept: more would let a peer turn real HTLCs into fees.
const MAX_DUST_LIMIT: Sat = Sat(10_000);
/// Smallest channel worth its fees.
pub const MIN_CAPACITY: Sat = Sat(20_000);
/// Capacity from which option_support_large_channel is needed.
const LARGE: Sat = Sat(1 << 24);
/// The longest CSV delay we accept on our own money: two weeks of blocks.
const MAX_TO_SELF_DELAY: u16 = 2_016;
/// The deepest funding we wait for.
const MAX_MINIMUM_DEPTH: u32 = 144;

/// What we ask for in a channel, whichever side opens.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The CSV delay, in blocks, we impose on the peer.
    pub to_self_delay: u16,
    /// The depth we wait for.
    pub minimum_depth: u32,
    /// The most in flight towards us, in percent of the capacity.
    pub max_in_flight_percent: u8,
    /// What the peer must keep; default 1 % of the capacity.
    pub reserve: Option<Sat>,
    /// What we ask of forwards.
    pub policy: Policy,
    /// Both have option_simple_close.
    pub simple_close: bool,
    /// Our dust limit, and the least that a peer may have: what the chain's nodes relay.
    pub dust_limit: Sat,
}

/// Where the handshake stands.
#[derive(Clone, Debug)]
enum Stage {
    Asked,
    Accepted,
    Created { terms: Box<Terms>, funded: Box<FundedTx> },
    Answered,
}

mod by_hand;

use alloc::boxed::Box;

/// A channel on its way; lives in memory only.
// BOLT 2 [2.shutdown.1].
#[derive(Clone, Debug)]
pub struct Opening {
    /// With whom.
    pub peer: NodeId,
    /// Its name so far.
    pub temporary_channel_id: ChannelId,
    /// Whom to answer when it is done or failed.
    pub command: Option<CommandId>,
    /// How much it is to hold.
    pub capacity: Sat,
    /// Of the funding transaction.
    pub funding_feerate: Feerate,
    /// A script of the user's for our money at a close.
    pub close_to: Option<ScriptBuf>,
    /// Our user makes and sends the funding transaction.
    pub by_hand: bool,
    opener: Side,
    stage: Stage,
    key_index: u64,
    channel_type: ChannelType,
    /// With `option_scid_alias` or not, and whether it may be opened without, too.
    scid_alias: bool,
    plain_will_do: bool,
    push: Msat,
    feerate: Feerate,
    announce: bool,
    minimum_depth: u32,
    wishes: Wishes,
    secrets: ChannelSecrets,
    local: Party,
    remote: Option<Party>,
    remote_point: Option<PublicKey>,
}

/// What the opener decides.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// Capacity.
    pub capacity: Sat,
    /// Given to the peer.
    pub push: Msat,
    /// The channel type.
    pub channel_type: ChannelType,
    /// With `option_scid_alias`.
    pub scid_alias: bool,
    /// And if the peer refuses that, without.
    pub plain_will_do: bool,
    /// Of commitments.
    pub feerate: Feerate,
    /// Of the funding transaction.
    pub funding_feerate: Feerate,
    /// Ask for announcement.
    pub announce: bool,
    /// A script for our money at a close.
    pub close_to: Option<ScriptBuf>,
}

fn own_party(secrets: &ChannelSecrets, capacity: Sat, wishes: &Wishes, cx: &Context<'_>) -> Party {
    let in_flight =
        u128::from(capacity.to_msat().0) * u128::from(wishes.max_in_flight_percent.min(100)) / 100;
    // Above any usual dust limit: the peer's must be below it.
    // BOLT 2 [2.open.7].
    let reserve = wishes
        .reserve
        .unwrap_or(Sat((capacity.0 / 100).max(wishes.dust_limit.0).max(1_000)))
        .max(wishes.dust_limit);
    Party {
        basepoints: secrets.basepoints(cx.crypto.secp()),
        dust_limit: wishes.dust_limit,
        max_in_flight: Msat(u64::try_from(in_flight).unwrap_or(u64::MAX)),
        reserve,
        htlc_minimum: Msat(1),
        to_self_delay: wishes.to_self_delay,
        max_accepted_htlcs: 483,
        upfront_shutdown: None,
    }
}

/// Refuses what no side should ask of the other (BOLT 2, "The open_channel Message" and "The accept_channel Message").
fn check_party(party: &Party, own: &Party, wishes: &Wishes, capacity: Sat) -> Result<(), PeerFault> {
    let refuse = |what: &str| Err(PeerFault::fail(format!("channel refused: {what}")));
    // BOLT 2 [2.open.27].
    if party.dust_limit < wishes.dust_limit || party.dust_limit > MAX_DUST_LIMIT {
        let least = wishes.dust_limit.0;
        return refuse(&format!("dust_limit_satoshis must be {least} to 10,000"));
    }
    // BOLT 2 [2.accept.3, 2.accept.4, 2.accept.6, 2.accept.7].
    if party.reserve < own.dust_limit || own.reserve < party.dust_limit {
        return refuse("channel_reserve_satoshis below a dust limit");
    }
    // BOLT 2 [2.open.26].
    if party.dust_limit > party.reserve {
        return refuse("dust_limit_satoshis above channel_reserve_satoshis");
    }
    if party.reserve.0 > capacity.0 / 5 {
        return refuse("channel_reserve_satoshis above a fifth of the channel");
    }
    // BOLT 2 [2.open.23].
    if party.max_accepted_htlcs == 0 || party.max_accepted_htlcs > 483 {
        return refuse("max_accepted_htlcs must be 1 to 483");
    }
    // BOLT 2 [2.open.22].
    if party.to_self_delay > MAX_TO_SELF_DELAY {
        return refuse("to_self_delay above 2,016 blocks");
    }
    let msat = capacity.to_msat();
    if party.htlc_minimum.0 > msat.0 / 10 || party.max_in_flight < party.htlc_minimum {
        return refuse("htlc_minimum_msat too large for the channel");
    }
    if let Some(script) = party.upfront_shutdown.as_ref().filter(|s| !s.is_empty()) {
        if !may_accept_shutdown(script, true, true) {
            return refuse("upfront_shutdown_script is not standard");
        }
    }
    Ok(())
}

fn check_keys(b: &Basepoints, own: &Basepoints) -> Result<(), PeerFault> {
    // Our own key on both sides of the funding output would make it ours alone to spend, or nobody's.
    if b.funding_pubkey == own.funding_pubkey {
        return Err(PeerFault::fail("channel refused: funding_pubkey is ours"));
    }
    Ok(())
}

/// The opener can pay the first commitment, and somebody has more than a reserve (BOLT 2 MUST fail otherwise).
fn check_start(
    channel_type: ChannelType,
    feerate: Feerate,
    capacity: Sat,
    push: Msat,
    reserves: (Sat, Sat),
) -> Result<(), &'static str> {
    // BOLT 2 [2.open.4, 2.open.21].
    let opener = capacity.to_msat().checked_sub(push).ok_or("push_msat is more than the channel holds")?;
    let cost = funder_cost(channel_type, feerate, 0);
    let after_fee =
        // BOLT 2 [2.open.28].
        opener.checked_sub(cost.to_msat()).ok_or("the opener cannot pay the first commitment's fee")?;
    let enough = reserves.0.max(reserves.1).to_msat();
    // BOLT 2 [2.open.29].
    if after_fee <= enough && push <= enough {
        return Err("neither side would have more than the reserve");
    }
    Ok(())
}

impl Opening {
    /// Starts an opening of ours.
    ///
    /// # Errors
    /// In words, when the request makes no sense.
    #[allow(clippy::too_many_arguments)]
    pub fn start(
        peer: NodeId,
        temporary_channel_id: ChannelId,
        key_index: u64,
        secrets: ChannelSecrets,
        request: &OpenRequest,
        wishes: Wishes,
        chain_hash: [u8; 32],
        large: bool,
        cx: &Context<'_>,
    ) -> Result<(Opening, OpenChannel), alloc::string::String> {
        let capacity = request.capacity;
        if capacity < MIN_CAPACITY {
            return Err(format!("a channel must hold at least {MIN_CAPACITY}"));
        }
        // BOLT 2 [2.open.3].
        if capacity >= LARGE && !large {
            return Err(format!("the peer takes no channels of {LARGE} or more"));
        }
        let local = own_party(&secrets, capacity, &wishes, cx);
        check_start(
            request.channel_type,
            request.feerate,
            capacity,
            request.push,
            (local.reserve, local.reserve),
        )?;
        // An opener below its reserve can carry no HTLC of either side: such a channel could only be closed.
        let kept = capacity.to_msat().saturating_sub(request.push);
        let needs = funder_cost(request.channel_type, request.feerate, 2).saturating_add(local.reserve);
        if kept < needs.to_msat() {
            return Err(format!(
                "push_msat leaves {kept}, but the opener needs {needs} for its reserve and fees"
            ));
        }
        // BOLT 2 [2.open.6].
        let point = secrets.per_commitment_point(cx.crypto, 0).map_err(|e| format!("{e}"))?;
        let b = &local.basepoints;
        let message = OpenChannel {
            chain_hash,
            temporary_channel_id,
            funding_satoshis: capacity,
            push_msat: request.push,
            dust_limit_satoshis: local.dust_limit,
            max_htlc_value_in_flight_msat: local.max_in_flight,
            channel_reserve_satoshis: local.reserve,
            htlc_minimum_msat: local.htlc_minimum,
            feerate_per_kw: request.feerate,
            to_self_delay: local.to_self_delay,
            max_accepted_htlcs: local.max_accepted_htlcs,
            funding_pubkey: b.funding_pubkey,
            revocation_basepoint: b.revocation_basepoint,
            payment_basepoint: b.payment_basepoint,
            delayed_payment_basepoint: b.delayed_payment_basepoint,
            htlc_basepoint: b.htlc_basepoint,
            first_per_commitment_point: point,
            // BOLT 2 [2.open.8].
            channel_flags: u8::from(request.announce),
            // BOLT 1, 2 [1.format.3, 2.open.9, 2.open.10].
            upfront_shutdown_script: Some(ScriptBuf::new()),
            // BOLT 1, 2 [1.format.3, 2.open.11, 2.open.12].
            channel_type: Some(type_bits(request.channel_type, request.scid_alias)),
        };
        let opening = Opening {
            peer,
            temporary_channel_id,
            command: None,
            capacity,
            funding_feerate: request.funding_feerate,
            close_to: request.close_to.clone(),
            by_hand: false,
            opener: Side::Local,
            stage: Stage::Asked,
            key_index,
            channel_type: request.channel_type,
            scid_alias: request.scid_alias,
            plain_will_do: request.plain_will_do,
            push: request.push,
            feerate: request.feerate,
            announce: request.announce,
            minimum_depth: wishes.minimum_depth,
            wishes,
            secrets,
            local,
            remote: None,
            remote_point: None,
        };
        Ok((opening, message))
    }

    /// Answers a peer's `open_channel`.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn accept(
        peer: NodeId,
        m: &OpenChannel,
        key_index: u64,
        secrets: ChannelSecrets,
        wishes: Wishes,
        negotiated: &Features,
        cx: &Context<'_>,
    ) -> Result<(Opening, AcceptChannel), Trouble> {
        let refuse = |what: &str| PeerFault::fail(format!("channel refused: {what}"));
        // BOLT 2 [2.open.16, 2.open.31, 2.open.32].
        let (channel_type, scid_alias) = m.channel_type.as_ref().and_then(type_of).ok_or_else(|| {
            refuse("channel_type must be static_remotekey, with anchors and scid_alias or without")
        })?;
        if channel_type.is_anchors() && !negotiated.supports(crate::wire::features::Feature::Anchors) {
            return Err(refuse("anchors were not negotiated").into());
        }
        // BOLT 2 [2.open.15].
        let announce = m.channel_flags & 1 == 1;
        if scid_alias && announce {
            return Err(refuse("channel_type scid_alias is for channels that are not announced").into());
        }
        if scid_alias && !negotiated.supports(crate::wire::features::Feature::ScidAlias) {
            return Err(refuse("scid_alias was not negotiated").into());
        }
        let capacity = m.funding_satoshis;
        let large = negotiated.supports(crate::wire::features::Feature::LargeChannel);
        // BOLT 2 [2.open.30].
        if capacity < MIN_CAPACITY || capacity > Sat::MAX_MONEY || (capacity >= LARGE && !large) {
            return Err(refuse("funding_satoshis out of range").into());
        }
        // BOLT 2 [2.open.24].
        if m.feerate_per_kw < Feerate::FLOOR || m.feerate_per_kw > cx.feerate_ceiling {
            let (low, high) = (Feerate::FLOOR, cx.feerate_ceiling);
            return Err(refuse(&format!("feerate_per_kw must be {low} to {high}")).into());
        }
        let local = own_party(&secrets, capacity, &wishes, cx);
        let remote = Party {
            basepoints: Basepoints {
                funding_pubkey: m.funding_pubkey,
                revocation_basepoint: m.revocation_basepoint,
                payment_basepoint: m.payment_basepoint,
                delayed_payment_basepoint: m.delayed_payment_basepoint,
                htlc_basepoint: m.htlc_basepoint,
            },
            dust_limit: m.dust_limit_satoshis,
            max_in_flight: m.max_htlc_value_in_flight_msat,
            reserve: m.channel_reserve_satoshis,
            htlc_minimum: m.htlc_minimum_msat,
            to_self_delay: m.to_self_delay,
            max_accepted_htlcs: m.max_accepted_htlcs,
            upfront_shutdown: m.upfront_shutdown_script.clone(),
        };
        check_keys(&remote.basepoints, &local.basepoints)?;
        check_party(&remote, &local, &wishes, capacity)?;
        check_start(channel_type, m.feerate_per_kw, capacity, m.push_msat, (local.reserve, remote.reserve))
            .map_err(refuse)?;
        let point = secrets.per_commitment_point(cx.crypto, 0).map_err(key_fault)?;
        let b = &local.basepoints;
        let answer = AcceptChannel {
            // BOLT 2 [2.accept.1].
            temporary_channel_id: m.temporary_channel_id,
            dust_limit_satoshis: local.dust_limit,
            max_htlc_value_in_flight_msat: local.max_in_flight,
            channel_reserve_satoshis: local.reserve,
            htlc_minimum_msat: local.htlc_minimum,
            minimum_depth: wishes.minimum_depth,
            to_self_delay: local.to_self_delay,
            max_accepted_htlcs: local.max_accepted_htlcs,
            funding_pubkey: b.funding_pubkey,
            revocation_basepoint: b.revocation_basepoint,
            payment_basepoint: b.payment_basepoint,
            delayed_payment_basepoint: b.delayed_payment_basepoint,
            htlc_basepoint: b.htlc_basepoint,
            first_per_commitment_point: point,
            upfront_shutdown_script: Some(ScriptBuf::new()),
            // BOLT 2 [2.accept.5].
            channel_type: m.channel_type.clone(),
        };
        let opening = Opening {
            peer,
            temporary_channel_id: m.temporary_channel_id,
            command: None,
            capacity,
            funding_feerate: Feerate::FLOOR,
            close_to: None,
            by_hand: false,
            opener: Side::Remote,
            stage: Stage::Answered,
            key_index,
            channel_type,
            scid_alias,
            plain_will_do: false,
            push: m.push_msat,
            feerate: m.feerate_per_kw,
            announce,
            minimum_depth: wishes.minimum_depth,
            wishes,
            secrets,
            local,
            remote: Some(remote),
            remote_point: Some(m.first_per_commitment_point),
        };
        Ok((opening, answer))
    }

    /// `accept_channel`: what the funding output must pay to.
    ///
    /// # Errors
    /// [`PeerFault`].
    pub fn on_accept(&mut self, m: &AcceptChannel) -> Result<ScriptBuf, PeerFault> {
        if !matches!(self.stage, Stage::Asked) {
            return Err(PeerFault::disconnect("accept_channel out of place"));
        }
        let remote = Party {
            basepoints: Basepoints {
                funding_pubkey: m.funding_pubkey,
                revocation_basepoint: m.revocation_basepoint,
                payment_basepoint: m.payment_basepoint,
                delayed_payment_basepoint: m.delayed_payment_basepoint,
                htlc_basepoint: m.htlc_basepoint,
            },
            dust_limit: m.dust_limit_satoshis,
            max_in_flight: m.max_htlc_value_in_flight_msat,
            reserve: m.channel_reserve_satoshis,
            htlc_minimum: m.htlc_minimum_msat,
            to_self_delay: m.to_self_delay,
            max_accepted_htlcs: m.max_accepted_htlcs,
            upfront_shutdown: m.upfront_shutdown_script.clone(),
        };
        check_keys(&remote.basepoints, &self.local.basepoints)?;
        check_party(&remote, &self.local, &self.wishes, self.capacity)?;
        let reserves = (self.local.reserve, remote.reserve);
        check_start(self.channel_type, self.feerate, self.capacity, self.push, reserves)
            .map_err(|what| PeerFault::fail(format!("channel refused: {what}")))?;
        // "channel_type: MUST be the one in open_channel".
        // BOLT 2 [2.accept.8, 2.accept.9].
        if m.channel_type.as_ref() != Some(&type_bits(self.channel_type, self.scid_alias)) {
            return Err(PeerFault::fail("accept_channel: another channel_type"));
        }
        if m.minimum_depth > MAX_MINIMUM_DEPTH {
            return Err(PeerFault::fail("accept_channel: minimum_depth above 144 blocks"));
        }
        // Ready only when both are: the deeper of the two wishes, and never on an unconfirmed funding.
        self.minimum_depth = self.minimum_depth.max(m.minimum_depth).max(1);
        let (ours, theirs) = (&self.local.basepoints.funding_pubkey, &remote.basepoints.funding_pubkey);
        let script = script::p2wsh(&script::funding(ours, theirs));
        self.remote = Some(remote);
        self.remote_point = Some(m.first_per_commitment_point);
        self.stage = Stage::Accepted;
        Ok(script)
    }

    /// The wallet's transaction: signs the peer's first commitment.
    ///
    /// # Errors
    /// A fault of ours.
    pub fn on_funded(&mut self, funded: FundedTx, cx: &Context<'_>) -> Result<FundingCreated, LocalFault> {
        if !matches!(self.stage, Stage::Accepted) {
            return Err(local("a funding transaction came out of place"));
        }
        let vout =
            u16::try_from(funded.vout).map_err(|_| local("the funding output's index is too large"))?;
        let pays = usize::try_from(funded.vout)
            .ok()
            .and_then(|v| funded.tx.output.get(v))
            .is_some_and(|o| o.value.to_sat() == self.capacity.0);
        if !pays {
            return Err(local("the wallet's funding transaction does not pay the channel's capacity"));
        }
        let txid = funded.tx.compute_txid();
        let terms = self.terms(OutPoint { txid, vout: funded.vout })?;
        let signature = self.sign_first(&terms, cx)?;
        self.stage = Stage::Created { terms: Box::new(terms), funded: Box::new(funded) };
        // BOLT 2 [2.created.1, 2.created.4].
        Ok(FundingCreated {
            temporary_channel_id: self.temporary_channel_id,
            funding_txid: txid,
            funding_output_index: vout,
            signature,
        })
    }

    /// `funding_signed`: the channel, with its funding transaction to publish once it is kept.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn on_signed(&mut self, m: &FundingSigned, cx: &Context<'_>) -> Result<Channel, Trouble> {
        let Stage::Created { terms, funded } = &self.stage else {
            return Err(PeerFault::disconnect("funding_signed out of place").into());
        };
        self.verify_first(terms, &m.signature, cx)?;
        let mut channel = self.channel((**terms).clone(), m.signature, cx)?;
        // Of one made by hand there are no signatures yet.
        channel.funding_tx = (!self.by_hand).then(|| funded.tx.clone());
        Ok(channel)
    }

    /// `funding_created`: the channel and the answer, to be sent once it is kept.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn on_created(
        &mut self,
        m: &FundingCreated,
        cx: &Context<'_>,
    ) -> Result<(Channel, FundingSigned), Trouble> {
        if !matches!(self.stage, Stage::Answered) {
            return Err(PeerFault::disconnect("funding_created out of place").into());
        }
        let outpoint = OutPoint { txid: m.funding_txid, vout: u32::from(m.funding_output_index) };
        let terms = self.terms(outpoint)?;
        self.verify_first(&terms, &m.signature, cx)?;
        let signature = self.sign_first(&terms, cx)?;
        let channel = self.channel(terms, m.signature, cx)?;
        let answer = FundingSigned { channel_id: channel.id(), signature };
        Ok((channel, answer))
    }

    /// The channel id it will have, once the funding transaction is known.
    pub fn final_id(&self) -> Option<ChannelId> {
        match &self.stage {
            Stage::Created { terms, .. } => Some(terms.channel_id),
            _ => None,
        }
    }

    /// The coins set aside for it, when the wallet has done so.
    pub fn reserved_txid(&self) -> Option<bitcoin::Txid> {
        match &self.stage {
            Stage::Created { terms, .. } if !self.by_hand => Some(terms.funding.txid),
            _ => None,
        }
    }

    fn terms(&self, funding: OutPoint) -> Result<Terms, LocalFault> {
        let remote = self.remote.clone().ok_or_else(|| local("the peer's terms are not known yet"))?;
        Ok(Terms {
            channel_id: ChannelId::from_funding(&funding),
            peer: self.peer,
            key_index: self.key_index,
            opener: self.opener,
            channel_type: self.channel_type,
            funding,
            capacity: self.capacity,
            push: self.push,
            initial_feerate: self.feerate,
            minimum_depth: self.minimum_depth,
            announce: self.announce,
            simple_close: self.wishes.simple_close,
            local: self.local.clone(),
            remote,
            scid_alias: self.scid_alias,
        })
    }

    fn first(
        &self,
        terms: &Terms,
        owner: Side,
        cx: &Context<'_>,
    ) -> Result<crate::tx::commitment::Commitment, LocalFault> {
        let point = match owner {
            Side::Local => self.secrets.per_commitment_point(cx.crypto, 0).map_err(key_fault)?,
            Side::Remote => {
                self.remote_point.ok_or_else(|| local("the peer's first point is not known yet"))?
            }
        };
        let (own, other) = (terms.party(owner), terms.party(owner.other()));
        let keys =
            cx.crypto.commitment_keys(&own.basepoints, &other.basepoints, &point).map_err(key_fault)?;
        let spec = self.ledger(terms).spec(View::Signed(owner), terms.opener);
        let spec = spec.ok_or_else(|| local("a first balance is negative"))?;
        build(&terms.commitment_terms(owner), &keys, 0, &spec).map_err(local)
    }

    fn ledger(&self, terms: &Terms) -> Ledger {
        let (ours, theirs) = (terms.initial_balance(Side::Local), terms.initial_balance(Side::Remote));
        Ledger::new(ours, theirs, terms.initial_feerate)
    }

    fn sign_first(&self, terms: &Terms, cx: &Context<'_>) -> Result<Signature, LocalFault> {
        // BOLT 2 [2.created.5, 2.signed.3].
        let commitment = self.first(terms, Side::Remote, cx)?;
        Ok(cx.crypto.sign(&commitment.sighash(), &self.secrets.funding))
    }

    fn verify_first(&self, terms: &Terms, signature: &Signature, cx: &Context<'_>) -> Result<(), Trouble> {
        let commitment = self.first(terms, Side::Local, cx)?;
        let key = &terms.remote.basepoints.funding_pubkey;
        // BOLT 2 [2.created.6, 2.signed.4].
        if !cx.crypto.verify(&commitment.sighash(), signature, key) {
            return Err(PeerFault::fail("bad signature on the first commitment").into());
        }
        Ok(())
    }

    fn channel(&self, terms: Terms, signature: Signature, cx: &Context<'_>) -> Result<Channel, LocalFault> {
        let ledger = self.ledger(&terms);
        let entry = SnapshotEntry {
            number: 0,
            their_number: 0,
            local: ledger.settled.local,
            remote: ledger.settled.remote,
            feerate: terms.initial_feerate,
            time_s: cx.now.seconds(),
        };
        let mut dirty = Dirty::new_channel();
        dirty.snapshots.push(entry);
        let ours = ledger.settled.local;
        Ok(Channel {
            commits: Commits {
                local_number: 0,
                remote_number: 0,
                awaiting_revoke: false,
                commit_was_last: false,
                remote_point: self
                    .remote_point
                    .ok_or_else(|| local("the peer's first point is not known"))?,
                remote_next_point: None,
                signature,
                htlc_signatures: alloc::vec::Vec::new(),
                remote_secrets: SecretStore::new(),
                snapshots: alloc::vec![entry],
            },
            terms,
            link: Link::Up,
            phase: Phase::Confirming,
            ledger,
            ready: (false, false),
            confirmed: None,
            funding_tx: None,
            close_to: self.close_to.clone(),
            log: alloc::vec::Vec::new(),
            annals: crate::channel::cause::Annals::default(),
            watch: None,
            retired: false,
            doubt: false,
            stats: Stats::default(),
            extremes: (ours, ours),
            policy: self.wishes.policy,
            announce: crate::channel::announce::Announce::default(),
            aliases: Aliases::default(),
            secrets: self.secrets.clone(),
            keyring: KeyRing::default(),
            notes: Notes::default(),
            dirty,
        })
    }
}
