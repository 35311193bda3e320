"""Core Lightning's own Python client drives two nodes of chand, unchanged.

In: the folder with the program `chand`. Out: exit status 0 when every call did what Core Lightning's does.
Run by tests/run.sh, which installs pyln-client from PyPI.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from pyln.client import LightningRpc, Millisatoshi, RpcError

PATIENCE = 60
LOGIN = "pyln:only-for-tests"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, probe):
    """Asks until the answer is true; what it was."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            seen = probe()
        except (OSError, ValueError) as error:
            seen = None
            why = error
        else:
            why = seen
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s for {what}; last seen: {why}")
        time.sleep(0.02)


def synced(node, height):
    info = node.getinfo()
    return info["blockheight"] == height and not any(key.startswith("warning_") for key in info)


class Chain:
    """The embedded chain."""

    def __init__(self, program, folder):
        self.port = free_port()
        user, password = LOGIN.split(":")
        self.url = f"http://{LOGIN}@127.0.0.1:{self.port}"
        self.process = start(
            [program, "regtest", "--listen", f"127.0.0.1:{self.port}", "--data-dir", os.path.join(folder, "chain"),
             "--user", user, "--password", password], folder, "chain")
        wait_for("the chain", lambda: self.call("getblockchaininfo"))

    def call(self, method, *params):
        body = json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", body)
        request.add_header("Authorization", "Basic " + base64.b64encode(LOGIN.encode()).decode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["result"]

    def mine(self, blocks, *nodes):
        self.call("generatetoaddress", blocks, self.call("getnewaddress"))
        height = self.call("getblockcount")
        for node in nodes:
            wait_for(f"height {height}", lambda node=node: synced(node, height))


def start(command, folder, name):
    log = open(os.path.join(folder, f"{name}.log"), "ab")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CHAND_")}
    environment["HOME"] = folder
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def start_node(program, folder, chain, name):
    port = free_port()
    data = os.path.join(folder, name)
    process = start(
        [program, "--data-dir", data, "--network", "regtest", "--listen", f"127.0.0.1:{port}",
         "--bitcoin-rpc", chain.url, "--alias", name], folder, name)
    rpc = LightningRpc(os.path.join(data, "regtest", "rpc.sock"))
    wait_for(f"{name} to answer", rpc.getinfo)
    return process, rpc, port


def refused(code, call, *arguments, **named):
    try:
        answer = call(*arguments, **named)
    except RpcError as error:
        assert error.error["code"] == code, error
        return error.error["message"]
    raise AssertionError(f"was to be refused with {code}: {answer}")


def msat(value):
    return int(Millisatoshi(value))


def open_channel(chain, alice, bob, bob_port):
    bob_id = bob.getinfo()["id"]
    assert alice.connect(bob_id, "127.0.0.1", bob_port)["id"] == bob_id
    assert alice.listpeers(bob_id)["peers"][0]["connected"]
    assert alice.ping(bob_id)["totlen"] == 132

    address = alice.newaddr("bech32")["bech32"]
    chain.call("sendtoaddress", address, 0.02)
    chain.mine(1, alice, bob)
    funds = wait_for("coins", lambda: alice.listfunds()["outputs"])
    assert [(msat(o["amount_msat"]), o["status"], o["address"]) for o in funds] == [(2_000_000_000, "confirmed", address)]

    funded = alice.fundchannel(bob_id, 1_000_000, push_msat=Millisatoshi("400000sat"), announce=False)
    assert len(funded["txid"]) == 64 and funded["tx"] and len(funded["channel_id"]) == 64
    wait_for("the funding transaction", lambda: funded["txid"] in chain.call("getrawmempool"))
    chain.mine(1, alice, bob)

    def normal(node):
        channels = node.listpeerchannels()["channels"]
        return channels and channels[0]["state"] == "CHANNELD_NORMAL" and channels[0]["peer_connected"]

    for node in (alice, bob):
        wait_for("the channel in use", lambda node=node: normal(node))
    channel = alice.listpeerchannels(bob_id)["channels"][0]
    assert msat(channel["to_us_msat"]) == 600_000_000, channel
    assert channel["funding_txid"] == funded["txid"]
    ours = alice.listfunds()["channels"]
    assert len(ours) == 1 and msat(ours[0]["our_amount_msat"]) == 600_000_000 and ours[0]["connected"]
    return bob_id


def pay(alice, bob, bob_id):
    invoice = bob.invoice(Millisatoshi("25000sat"), "pyln 1", "tea", expiry=3600)
    decoded = alice.decode(invoice["bolt11"])
    assert decoded["valid"] and decoded["payee"] == bob_id and msat(decoded["amount_msat"]) == 25_000_000
    paid = alice.pay(invoice["bolt11"])
    assert paid["status"] == "complete" and msat(paid["amount_msat"]) == 25_000_000
    assert paid["payment_hash"] == invoice["payment_hash"]
    assert bob.waitinvoice("pyln 1")["status"] == "paid"
    assert bob.listinvoices("pyln 1")["invoices"][0]["payment_preimage"] == paid["payment_preimage"]
    pays = alice.listpays(invoice["bolt11"])["pays"]
    assert [p["status"] for p in pays] == ["complete"]
    assert [p["status"] for p in alice.listsendpays(invoice["bolt11"])["payments"]] == ["complete"]

    any_amount = bob.invoice("any", "pyln 2", "as you like")
    assert msat(alice.pay(any_amount["bolt11"], amount_msat=1_001)["amount_sent_msat"]) == 1_001
    assert bob.waitanyinvoice(1)["label"] == "pyln 2"
    assert alice.keysend(bob_id, 5_000)["status"] == "complete"

    refused(900, bob.invoice, 1, "pyln 1", "the label is taken")
    bob.delinvoice("pyln 1", "paid")
    assert bob.listinvoices("pyln 1")["invoices"] == []
    refused(-32602, alice.pay, "lnbcrt1nonsense")
    assert "bolt11" in refused(-32602, alice.call, "pay", {})
    refused(-32601, alice.call, "no-such-method")


def wait(alice, bob):
    for node, subsystem in ((bob, "invoices"), (alice, "sendpays"), (alice, "forwards")):
        for index in ("created", "updated", "deleted"):
            now = node.wait(subsystem, index, 0)
            assert now["subsystem"] == subsystem and isinstance(now[index], int), now
    created = bob.wait("invoices", "created", 0)["created"]
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(bob.wait, "invoices", "created", created + 1)
        bob.invoice(1, "pyln waits", "tea")
        heard = waiting.result(PATIENCE)
    assert heard["created"] == created + 1 and heard["invoices"]["label"] == "pyln waits", heard
    assert heard["details"]["status"] == "unpaid", heard
    rows = bob.listinvoices(index="created", start=created + 1)["invoices"]
    assert [row["label"] for row in rows] == ["pyln waits"]
    refused(-32602, bob.wait, "weather", "created", 0)


def others(alice, bob, alice_id):
    info = alice.getinfo()
    assert info["alias"] == "alice" and info["network"] == "regtest" and info["num_active_channels"] == 1
    signed = alice.signmessage("tea at five")
    assert bob.checkmessage("tea at five", signed["zbase"], alice_id)["verified"]
    assert alice.feerates("perkw")["perkw"]["min_acceptable"] >= 1
    assert alice.listconfigs()
    assert any(h["command"].startswith("pay ") for h in alice.help()["help"])
    balance = alice.call("balance")
    assert balance["channels"], balance


def close(chain, alice, bob, bob_id):
    before = sum(msat(o["amount_msat"]) for o in bob.listfunds()["outputs"])
    had = msat(bob.listpeerchannels()["channels"][0]["to_us_msat"])
    closed = alice.close(bob_id)
    assert closed["type"] == "mutual", closed
    chain.mine(1, alice, bob)

    def arrived():
        outputs = bob.listfunds()["outputs"]
        return sum(msat(o["amount_msat"]) for o in outputs if o["status"] == "confirmed") == before + had // 1000 * 1000

    wait_for("Bob's money on chain", arrived)
    wait_for("the closed channel", lambda: alice.call("listclosedchannels")["closedchannels"])
    sent = bob.withdraw(chain.call("getnewaddress"), "all")
    assert len(sent["txid"]) == 64
    wait_for("the withdrawal", lambda: sent["txid"] in chain.call("getrawmempool"))


def main():
    program = os.path.join(os.path.abspath(sys.argv[1]), "chand")
    folder = tempfile.mkdtemp(prefix="chand-pyln-")
    processes = []
    try:
        chain = Chain(program, folder)
        processes.append(chain.process)
        alice_process, alice, _ = start_node(program, folder, chain, "alice")
        processes.append(alice_process)
        bob_process, bob, bob_port = start_node(program, folder, chain, "bob")
        processes.append(bob_process)

        bob_id = open_channel(chain, alice, bob, bob_port)
        pay(alice, bob, bob_id)
        wait(alice, bob)
        others(alice, bob, alice.getinfo()["id"])
        close(chain, alice, bob, bob_id)
        alice.stop()
        assert alice_process.wait(PATIENCE) == 0
    except BaseException:
        for name in ("alice", "bob"):
            path = os.path.join(folder, f"{name}.log")
            if os.path.exists(path):
                with open(path, errors="replace") as log:
                    print(f"---- {name}.log", *log.readlines()[-40:], sep="\n", file=sys.stderr)
        raise
    finally:
        for process in reversed(processes):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print("pyln-client: opened, paid, closed and withdrew")


if __name__ == "__main__":
    main()
