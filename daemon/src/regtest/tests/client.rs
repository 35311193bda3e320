//! A small HTTP client and transaction maker for the tests here.

use std::path::Path;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use serde_json::{json, Value};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::regtest::{spawn, Options, Running};

/// Speaks to one embedded chain.
#[derive(Clone)]
pub struct Client {
    pub address: std::net::SocketAddr,
    pub auth: String,
}

impl Client {
    /// Sends bytes as they are and reads until the other side closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The status and body of one POST.
    pub async fn post(&self, path: &str, auth: &str, body: &str) -> (u16, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {auth}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = self.raw(format!("{head}{body}").as_bytes()).await;
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }

    /// Calls a method: the result, or bitcoind's code and message.
    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let request = json!({"jsonrpc": "1.0", "id": 7, "method": method, "params": params});
        let (_, body) = self.post("/", &self.auth, &request.to_string()).await;
        let reply: Value = serde_json::from_str(&body).unwrap_or_else(|fault| panic!("{fault}: {body}"));
        assert_eq!(reply["id"], 7);
        match reply["error"] {
            Value::Null => Ok(reply["result"].clone()),
            ref error => {
                Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned()))
            }
        }
    }

    /// Calls a method that must succeed.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params.clone())
            .await
            .unwrap_or_else(|fault| panic!("{method} {params}: {fault:?}"))
    }

    /// Calls a method that must fail.
    pub async fn fail(&self, method: &str, params: Value) -> (i64, String) {
        self.try_call(method, params).await.expect_err("must fail")
    }
}

/// A chain of its own, and a key whose coins the tests spend by hand.
pub struct Harness {
    pub dir: TempDir,
    pub running: Running,
    pub client: Client,
    pub key: SecretKey,
    pub secp: Secp256k1<bitcoin::secp256k1::All>,
}

pub fn options(dir: &Path, premine: u32) -> Options {
    Options {
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: Some(dir.to_path_buf()),
        premine,
        ..Options::default()
    }
}

pub fn client_of(running: &Running) -> Client {
    let auth = STANDARD.encode(format!("{}:{}", running.user(), running.password()));
    Client { address: running.address(), auth }
}

impl Harness {
    pub async fn start() -> Harness {
        Harness::start_with(110).await
    }

    pub async fn start_with(premine: u32) -> Harness {
        let dir = tempfile::tempdir().unwrap();
        let running = spawn(options(dir.path(), premine)).await.unwrap();
        let client = client_of(&running);
        let key = SecretKey::from_slice(&[0x42; 32]).unwrap();
        Harness { dir, running, client, key, secp: Secp256k1::new() }
    }

    pub fn script(&self) -> ScriptBuf {
        let key = bitcoin::CompressedPublicKey(self.key.public_key(&self.secp));
        ScriptBuf::new_p2wpkh(&key.wpubkey_hash())
    }

    pub fn address(&self) -> String {
        bitcoin::Address::from_script(&self.script(), bitcoin::Network::Regtest).unwrap().to_string()
    }

    /// Confirmed coins of the test's key, each of this many satoshi.
    pub async fn coins(&self, count: usize, sat: u64) -> Vec<OutPoint> {
        let mut coins = Vec::new();
        for _ in 0..count {
            let coins_text = format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
            let txid = self.client.call("sendtoaddress", json!([self.address(), coins_text])).await;
            coins.push(OutPoint { txid: txid.as_str().unwrap().parse().unwrap(), vout: 0 });
        }
        self.mine(1).await;
        coins
    }

    pub async fn mine(&self, blocks: u32) -> Vec<String> {
        let to = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202";
        let hashes = self.client.call("generatetoaddress", json!([blocks, to])).await;
        hashes.as_array().unwrap().iter().map(|hash| hash.as_str().unwrap().to_owned()).collect()
    }

    /// Spends coins of the test's key to outputs of these values and scripts.
    pub fn spend(
        &self,
        version: i32,
        coins: &[(OutPoint, u64)],
        outputs: &[(u64, ScriptBuf)],
    ) -> Transaction {
        let mut tx = Transaction {
            version: Version(version),
            lock_time: LockTime::ZERO,
            input: coins
                .iter()
                .map(|(coin, _)| TxIn {
                    previous_output: *coin,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::MAX,
                    witness: Witness::new(),
                })
                .collect(),
            output: outputs
                .iter()
                .map(|(sat, script)| TxOut { value: Amount::from_sat(*sat), script_pubkey: script.clone() })
                .collect(),
        };
        self.sign(&mut tx, coins);
        tx
    }

    /// Signs every P2WPKH input of the test's key. All signatures are equally long, so that transactions of one shape
    /// have one size and fees can be told to the satoshi.
    pub fn sign(&self, tx: &mut Transaction, coins: &[(OutPoint, u64)]) {
        let unsigned = tx.clone();
        let mut cache = SighashCache::new(&unsigned);
        for (index, (_, sat)) in coins.iter().enumerate() {
            let hash = cache
                .p2wpkh_signature_hash(index, &self.script(), Amount::from_sat(*sat), EcdsaSighashType::All)
                .unwrap();
            let message = Message::from_digest(hash.to_byte_array());
            let signature = (0..=u8::MAX)
                .map(|nonce| self.secp.sign_ecdsa_with_noncedata(&message, &self.key, &[nonce; 32]))
                .find(|signature| signature.serialize_der().len() == 70)
                .expect("half of all signatures are of that length");
            let signature = bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
            tx.input[index].witness = Witness::p2wpkh(&signature, &self.key.public_key(&self.secp));
        }
    }

    pub async fn send(&self, tx: &Transaction) -> Result<Value, (i64, String)> {
        self.client.try_call("sendrawtransaction", json!([hex(tx)])).await
    }

    pub async fn pool(&self) -> Vec<String> {
        let txids = self.client.call("getrawmempool", json!([])).await;
        txids.as_array().unwrap().iter().map(|txid| txid.as_str().unwrap().to_owned()).collect()
    }
}

pub fn hex(tx: &Transaction) -> String {
    crate::regtest::rpc::hex(&serialize(tx))
}

pub fn id(tx: &Transaction) -> String {
    tx.compute_txid().to_string()
}

pub fn out(tx: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: tx.compute_txid(), vout }
}
