//! The policy interpreter against Bitcoin Core's: random scripts, same verdict but for the rules of policy.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::script_policy::check_input;
use crate::regtest::consensus::verify_inputs;

/// What policy refuses and consensus does not mind.
const POLICY_ONLY: [&str; 8] = [
    "Data push larger than necessary",
    "OP_IF/NOTIF argument must be minimal",
    "NOPx reserved for soft-fork upgrades",
    "Using OP_CODESEPARATOR in non-witness script",
    "Signature must be zero for failed CHECK(MULTI)SIG operation",
    "Public key is neither compressed or uncompressed",
    "Using non-compressed keys in segwit",
    "Stack size must be exactly one after execution",
];

/// A small generator, the same sequence each time.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next(from.len() as u64)).unwrap()]
    }

    fn item(&mut self) -> Vec<u8> {
        const ITEMS: [&[u8]; 12] = [
            &[],
            &[1],
            &[2],
            &[0x81],
            &[0],
            &[0x80],
            &[0xff, 0],
            &[5],
            &[16],
            &[17],
            &[1, 2, 3, 4, 5],
            &[3, 0],
        ];
        self.pick(&ITEMS).to_vec()
    }

    fn script(&mut self) -> Vec<u8> {
        // Every opcode that may stand in a script, those of Lightning more often.
        const OFTEN: [u8; 12] = [0x63, 0x64, 0x67, 0x68, 0x69, 0x73, 0x75, 0x76, 0x7c, 0x87, 0x88, 0x82];
        let mut script = Vec::new();
        let mut open = 0u32;
        for _ in 0..self.next(14) {
            match self.next(8) {
                0..=2 => script.push(0x50 + u8::try_from(1 + self.next(16)).unwrap()),
                3 => {
                    let item = self.item();
                    script.push(u8::try_from(item.len()).unwrap());
                    script.extend(item);
                }
                4 | 5 => {
                    let code = self.pick(&OFTEN);
                    match code {
                        0x63 | 0x64 => open += 1,
                        0x68 => open = open.saturating_sub(1),
                        _ => {}
                    }
                    script.push(code);
                }
                _ => script.push(0x4f + u8::try_from(self.next(0x6c)).unwrap()),
            }
        }
        script.extend(vec![0x68; usize::try_from(open).unwrap()]);
        script
    }
}

fn spend(script_sig: Vec<u8>, witness: &[Vec<u8>]) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(20),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script_sig),
            sequence: Sequence(10),
            witness: Witness::from_slice(witness),
        }],
        output: vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::new() }],
    }
}

fn agree(tx: &Transaction, spent: &TxOut, counts: &mut (u32, u32)) {
    let consensus = verify_inputs(tx, std::slice::from_ref(spent)).is_ok();
    let policy = check_input(tx, 0, spent);
    let shown =
        || format!("{:x} with {:?} {:x}", spent.script_pubkey, tx.input[0].witness, tx.input[0].script_sig);
    match policy {
        Ok(()) => {
            assert!(consensus, "policy takes what consensus refuses: {}", shown());
            counts.0 += 1;
        }
        Err(fault) if consensus => {
            // Numbers in script must be minimal under policy; consensus reads them anyhow.
            assert!(POLICY_ONLY.contains(&fault) || fault == "unknown error", "{fault}: {}", shown());
            counts.1 += 1;
        }
        Err(_) => {}
    }
}

#[test]
fn random_scripts_meet_the_same_verdict() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut witness_counts, mut bare_counts) = ((0, 0), (0, 0));
    for _ in 0..60_000 {
        let script = random.script();
        let stack: Vec<Vec<u8>> = (0..random.next(5)).map(|_| random.item()).collect();
        let output = |script_pubkey| TxOut { value: Amount::from_sat(5_000), script_pubkey };
        let program = Script::from_bytes(&script).to_p2wsh();
        let mut witness = stack.clone();
        witness.push(script.clone());
        agree(&spend(Vec::new(), &witness), &output(program), &mut witness_counts);

        let pushes: Vec<u8> = stack
            .iter()
            .flat_map(|item| [vec![u8::try_from(item.len()).unwrap()], item.clone()].concat())
            .collect();
        let bare = ScriptBuf::from_bytes(script);
        if !bare.is_witness_program() {
            agree(&spend(pushes, &[]), &output(bare), &mut bare_counts);
        }
    }
    // The sample is worth something only if many scripts run to a good end.
    assert!(witness_counts.0 > 1_000 && bare_counts.0 > 300, "{witness_counts:?} {bare_counts:?}");
    assert!(witness_counts.1 > 100 && bare_counts.1 > 100, "{witness_counts:?} {bare_counts:?}");
}
