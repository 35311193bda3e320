//! How each type of field stands on the wire: plain in a message, or as the value of a TLV record.
//!
//! In: a `Reader` or `Writer` and the field's name. Out: the value.
//! Read next: `layout` (which message has which fields).

use crate::id::{ChannelId, NodeId, ShortChannelId};
use crate::units::{Feerate, Height, Msat, Sat};
use crate::wire::codec::{Malformed, Reader, Writer};
use crate::wire::features::Features;
use crate::wire::message::OnionPacket;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Txid};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SecretKey};

/// No commitment has more HTLCs: 483 offered by each side (BOLT 2, `max_accepted_htlcs`).
pub const MAX_HTLC_SIGNATURES: u16 = 2 * 483;

/// A value with a fixed place in a message; one of variable length brings its length along.
pub(super) trait Field: Sized {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed>;
    fn write(&self, w: &mut Writer);
}

/// The value of a TLV record, which ends where the record ends.
pub(super) trait Record: Sized {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed>;
    fn write(&self, w: &mut Writer);
}

macro_rules! integer_fields {
    ($($type:ident),*) => {$(
        impl Field for $type {
            fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
                r.$type(name)
            }
            fn write(&self, w: &mut Writer) {
                w.$type(*self);
            }
        }
    )*};
}
integer_fields!(u8, u16, u32, u64);

macro_rules! wrapped_fields {
    ($($type:ident),*) => {$(
        impl Field for $type {
            fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
                Field::read(r, name).map($type)
            }
            fn write(&self, w: &mut Writer) {
                Field::write(&self.0, w);
            }
        }
    )*};
}
wrapped_fields!(Sat, Msat, Feerate, Height, ChannelId, ShortChannelId, NodeId);

impl<const N: usize> Field for [u8; N] {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        r.array(name)
    }
    fn write(&self, w: &mut Writer) {
        w.bytes(self);
    }
}

impl Field for Txid {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        r.array(name).map(Txid::from_byte_array)
    }
    fn write(&self, w: &mut Writer) {
        w.bytes(self.as_byte_array());
    }
}

impl Field for PublicKey {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        // BOLT 2, 7 [2.open.5, 2.open.25, 7.node.11].
        PublicKey::from_slice(&r.array::<33>(name)?).map_err(|_| Malformed::BadPoint(name))
    }
    fn write(&self, w: &mut Writer) {
        w.bytes(&self.serialize());
    }
}

impl Field for SecretKey {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        SecretKey::from_slice(&r.array::<32>(name)?).map_err(|_| Malformed::BadSecret(name))
    }
    fn write(&self, w: &mut Writer) {
        w.bytes(self.as_ref());
    }
}

impl Field for Signature {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        Signature::from_compact(&r.array::<64>(name)?).map_err(|_| Malformed::BadSignature(name))
    }
    fn write(&self, w: &mut Writer) {
        // BOLT 3 [3.sign.2].
        w.bytes(&self.serialize_compact());
    }
}

impl Field for Vec<u8> {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        r.bytes16(name).map(Vec::from)
    }
    fn write(&self, w: &mut Writer) {
        w.bytes16(self);
    }
}

impl Field for ScriptBuf {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        Field::read(r, name).map(ScriptBuf::from_bytes)
    }
    fn write(&self, w: &mut Writer) {
        w.bytes16(self.as_bytes());
    }
}

impl Field for Vec<Signature> {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        let count = r.u16(name)?;
        if count > MAX_HTLC_SIGNATURES {
            return Err(Malformed::TooMany(name));
        }
        (0..count).map(|_| Field::read(r, name)).collect()
    }
    fn write(&self, w: &mut Writer) {
        w.count16(self.len());
        self.iter().for_each(|signature| Field::write(signature, w));
    }
}

impl Field for Box<OnionPacket> {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        Ok(Box::new(OnionPacket {
            version: r.u8(name)?,
            public_key: r.array(name)?,
            hop_payloads: r.array(name)?,
            hmac: r.array(name)?,
        }))
    }
    fn write(&self, w: &mut Writer) {
        w.u8(self.version);
        w.bytes(&self.public_key);
        w.bytes(&self.hop_payloads);
        w.bytes(&self.hmac);
    }
}

macro_rules! field_records {
    ($($type:ident),*) => {$(
        impl Record for $type {
            fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
                Field::read(r, name)
            }
            fn write(&self, w: &mut Writer) {
                Field::write(self, w);
            }
        }
    )*};
}
field_records!(PublicKey, Signature, ShortChannelId);

impl Record for ScriptBuf {
    fn read(r: &mut Reader<'_>, _name: &'static str) -> Result<Self, Malformed> {
        Ok(ScriptBuf::from_bytes(r.rest().into()))
    }
    fn write(&self, w: &mut Writer) {
        w.bytes(self.as_bytes());
    }
}

impl Record for Features {
    fn read(r: &mut Reader<'_>, _name: &'static str) -> Result<Self, Malformed> {
        Ok(Features::parse(r.rest()))
    }
    fn write(&self, w: &mut Writer) {
        w.bytes(self.as_bytes());
    }
}

impl Record for (Sat, Sat) {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        Ok((Field::read(r, name)?, Field::read(r, name)?))
    }
    fn write(&self, w: &mut Writer) {
        Field::write(&self.0, w);
        Field::write(&self.1, w);
    }
}

impl Record for Vec<[u8; 32]> {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        let mut hashes = Vec::with_capacity(r.left() / 32);
        while r.left() > 0 {
            hashes.push(r.array(name)?);
        }
        Ok(hashes)
    }
    fn write(&self, w: &mut Writer) {
        self.iter().for_each(|hash| w.bytes(hash));
    }
}
