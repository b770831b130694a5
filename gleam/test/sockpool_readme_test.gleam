//// The examples of README.md and of the main README, which the test script makes modules of, on real sockets.

import actors
import cache
import five_minutes
import framings
import login
import node_kit
import nodes
import secure
import sockpool/term
import sockpool_kit as kit

pub fn five_minutes_test() {
  five_minutes.talk(kit.port(kit.echo_server()))
}

pub fn from_the_main_readme_test() {
  cache.talk(kit.port(kit.echo_server()))
}

pub fn login_test() {
  login.talk(kit.port(kit.greeting_server("welcome\n")))
}

pub fn framings_test() {
  framings.talk(kit.port(kit.echo_server()))
}

pub fn secure_test() {
  let server = kit.tls_echo_server("server", [])
  secure.talk("127.0.0.1", kit.port(server), kit.certificates() <> "/ca.pem")
}

pub fn actors_test() {
  actors.talk()
}

pub fn nodes_test() {
  use node <- node_kit.with_node
  let collector = node_kit.collect(node, "inbox")
  nodes.talk(kit.node_name(node), node_kit.our_cookie())
  let got = [term.from("one"), term.from("two")]
  kit.wait_until(fn() { node_kit.collected(collector) == got })
  node_kit.nothing_is_left(node)
}
