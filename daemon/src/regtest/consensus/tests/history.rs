//! Any history gives the coins of the chain it ends with.
//!
//! Random orders, from a seed, against a chain built anew from the active blocks, with a restart now and then.

use super::*;
use bitcoin::BlockHash;
use std::path::Path;
use tempfile::TempDir;

/// Numbers that look random and come again with the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A transaction that spends some coin, or two, that anyone can spend, and makes one to three.
fn some_tx(chain: &ChainState, dice: &mut Dice) -> Option<Transaction> {
    let tip = chain.tip().height;
    let open = open_output();
    let spendable: Vec<(OutPoint, u64)> = chain
        .coins()
        .filter(|(_, coin)| coin.out.script_pubkey == open && coin.out.value.to_sat() > 1_000)
        .filter(|(_, coin)| !coin.coinbase || coin.height + 100 <= tip + 1)
        .map(|(outpoint, coin)| (*outpoint, coin.out.value.to_sat()))
        .collect();
    if spendable.is_empty() {
        return None;
    }
    let (from, sat) = spendable[dice.roll(spendable.len())];
    let mut tx = spend(from, sat - 300, open.clone());
    let (second, more) = spendable[dice.roll(spendable.len())];
    if second != from {
        tx.input.push(spend(second, 0, open.clone()).input.remove(0));
        tx.output[0].value += Amount::from_sat(more);
    }
    let outputs = 1 + dice.roll(3);
    let share = tx.output[0].value / outputs as u64;
    tx.output = vec![TxOut { value: share, script_pubkey: open }; outputs];
    Some(tx)
}

/// Some transactions that can be mined together, one of them built on another.
fn some_txs(chain: &ChainState, dice: &mut Dice) -> Vec<Transaction> {
    let Some(parent) = some_tx(chain, dice) else { return Vec::new() };
    let mut txs = vec![parent];
    if dice.roll(2) == 0 {
        let value = txs[0].output[0].value.to_sat();
        txs.push(spend(first(&txs[0]), value - 10, open_output()));
    }
    txs
}

/// A chain that has `hash` as its tip, built from the blocks below it, or as far up as they are valid.
fn chain_to(chain: &ChainState, hash: BlockHash) -> ChainState {
    let mut path = Vec::new();
    let mut next = chain.info(&hash);
    while let Some(info) = next.filter(|info| info.height > 0) {
        path.push(chain.block(&info.hash).unwrap());
        next = chain.info(&info.prev.unwrap());
    }
    let mut built = ChainState::in_memory();
    for block in path.iter().rev() {
        if built.submit_at(Block::clone(block), NOW).is_err() {
            break;
        }
    }
    built
}

/// A block on some block near the tip, sometimes one that takes too much.
fn some_block(chain: &ChainState, dice: &mut Dice, step: u32) -> Block {
    let height = chain.tip().height.saturating_sub(dice.roll(4) as u32);
    let parent = match dice.roll(3) {
        0 => {
            let tips = chain.chain_tips();
            let valid: Vec<_> = tips.iter().filter(|tip| tip.status != TipStatus::Invalid).collect();
            valid[dice.roll(valid.len())].hash
        }
        _ => chain.block_hash(height).unwrap(),
    };
    let base = chain_to(chain, parent);
    let mut block = base.assemble(&open_output(), some_txs(&base, dice), NOW + 100 + step).unwrap();
    if base.tip().hash != parent {
        // On a block that will be found invalid only when it is to be connected.
        let height = i64::from(chain.info(&parent).unwrap().height) + 1;
        block.header.prev_blockhash = parent;
        block.txdata[0].input[0].script_sig = Builder::new().push_int(height).push_int(0).into_script();
        recommit(&mut block);
    }
    if dice.roll(6) == 0 {
        block.txdata[0].output[0].value += Amount::ONE_SAT;
        recommit(&mut block);
    }
    block
}

/// How often each outcome came up, so that the test cannot go idle unnoticed.
#[derive(Default, Debug)]
struct Seen {
    grown: u32,
    side: u32,
    reorganised: u32,
    refused: u32,
    inconclusive: u32,
}

fn live(seed: u64, dir: &Path, seen: &mut Seen) {
    let mut dice = Dice(seed);
    let mut chain = ChainState::open(dir).unwrap();
    grow(&mut chain, 108);
    for step in 0..60 {
        let height = chain.tip().height - dice.roll(4) as u32;
        let near = chain.block_hash(height).unwrap();
        match dice.roll(10) {
            0..=5 => {
                let block = some_block(&chain, &mut dice, step);
                // Refused or not: the outcome is judged below.
                match chain.submit_at(block, NOW + 100 + step) {
                    Ok(submit) if !submit.disconnected.is_empty() => seen.reorganised += 1,
                    Ok(submit) if submit.is_empty() => seen.side += 1,
                    Ok(_) => seen.grown += 1,
                    Err(BlockReject::Inconclusive) => seen.inconclusive += 1,
                    Err(_) => seen.refused += 1,
                }
            }
            6 => {
                let txs = some_txs(&chain, &mut dice);
                chain.mine(&open_output(), txs, NOW + 100 + step).unwrap();
            }
            7 => {
                chain.invalidate(&near).unwrap();
            }
            8 => {
                let tips = chain.chain_tips();
                chain.reconsider(&tips[dice.roll(tips.len())].hash).unwrap();
            }
            _ => {
                drop(chain);
                chain = ChainState::open(dir).unwrap();
            }
        }
        assert_same(&chain, &copy(&chain));
        let best = chain.chain_tips().into_iter().filter(|tip| tip.status != TipStatus::Invalid);
        assert_eq!(best.map(|tip| tip.height).max(), Some(chain.tip().height), "seed {seed}, step {step}");
    }
    assert_same(&chain, &ChainState::open(dir).unwrap());
}

#[test]
fn any_history_gives_the_coins_of_its_chain() {
    let mut seen = Seen::default();
    for seed in 0..12 {
        let dir = TempDir::new().unwrap();
        live(seed, dir.path(), &mut seen);
    }
    let Seen { grown, side, reorganised, refused, inconclusive } = seen;
    assert!([grown, side, reorganised, refused, inconclusive].iter().all(|count| *count > 0), "{seen:?}");
}
