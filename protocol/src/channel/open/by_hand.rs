//! An opening whose funding transaction our user makes (`fundchannel_start`, `fundchannel_complete`).
//!
//! In: a transaction that need not be signed yet, but whose id is final. Out: which of its outputs is the channel's. Money
//! that is sent to a channel's script under an id that no commitment knows is lost, so nothing is guessed here.
//! Read next: `crate::node::funding`.

use super::{OpenRequest, Opening, Stage, Wishes};
use crate::channel::alias::type_bits;
use crate::id::CommandId;
use crate::tx::script;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{ScriptBuf, Transaction, Txid};

impl Opening {
    /// The same opening without `option_scid_alias`, and who waits for it, when the peer has answered nothing yet and that
    /// is good enough.
    pub fn without_alias(&self) -> Option<(OpenRequest, Wishes, Option<CommandId>)> {
        if !self.scid_alias || !self.plain_will_do || !matches!(self.stage, Stage::Asked) {
            return None;
        }
        let request = OpenRequest {
            capacity: self.capacity,
            push: self.push,
            channel_type: self.channel_type,
            scid_alias: false,
            plain_will_do: false,
            feerate: self.feerate,
            funding_feerate: self.funding_feerate,
            announce: self.announce,
            close_to: self.close_to.clone(),
        };
        Some((request, self.wishes.clone(), self.command))
    }

    /// What the funding output must pay to, once the peer has accepted.
    pub fn funding_script(&self) -> Option<ScriptBuf> {
        let theirs = &self.remote.as_ref()?.basepoints.funding_pubkey;
        Some(script::p2wsh(&script::funding(&self.local.basepoints.funding_pubkey, theirs)))
    }

    /// The bits of its type.
    pub fn type_bits(&self) -> Vec<u32> {
        type_bits(self.channel_type, self.scid_alias).bits().collect()
    }

    /// The depth that both wait for.
    pub const fn depth(&self) -> u32 {
        self.minimum_depth
    }

    /// It waits for a funding transaction.
    pub const fn is_accepted(&self) -> bool {
        matches!(self.stage, Stage::Accepted)
    }

    /// The funding transaction that the peer has been told of, and has not signed for yet.
    pub fn unsigned_txid(&self) -> Option<Txid> {
        match &self.stage {
            Stage::Created { terms, .. } => Some(terms.funding.txid),
            _ => None,
        }
    }

    /// Which output of our user's transaction is the channel's.
    ///
    /// # Errors
    /// In words, when that is not exactly one with exactly the channel's capacity.
    pub fn find_output(&self, tx: &Transaction) -> Result<u32, String> {
        let Some(script) = self.funding_script() else {
            return Err("the peer has not accepted the channel yet".into());
        };
        let mut found = (0u32..).zip(&tx.output).filter(|(_, output)| output.script_pubkey == script);
        let Some((vout, output)) = found.next() else {
            return Err("no output pays to the channel's address".into());
        };
        if found.next().is_some() {
            return Err(
                "several outputs pay to the channel's address, and only one can be the channel".into()
            );
        }
        let (sat, wanted) = (output.value.to_sat(), self.capacity.0);
        if sat != wanted {
            return Err(format!(
                "the channel's output holds {sat} sat, and the channel was to hold {wanted} sat"
            ));
        }
        Ok(vout)
    }
}
