//// TLS pools, against OTP's ssl. Certificates are those of sockpool_tls_peers.

import sockpool/connection.{type Info, Bytes, Default, Infinity, Secured}
import sockpool/error
import sockpool/options
import sockpool/pool
import sockpool/tls.{Tls12, Tls13, VerifyNone, VerifyPeer}
import sockpool_kit as kit

fn file(name: String) -> String {
  kit.certificates() <> "/" <> name
}

fn trusting() -> tls.Options {
  tls.new() |> tls.cacertfile(file("ca.pem"))
}

/// The server is at an address; its certificate is made out to that address too.
fn with_tls(name: String, server, tls: tls.Options, run) {
  let options =
    options.tls("127.0.0.1", kit.port(server), tls)
    |> options.size(1)
    |> options.max_overflow(0)
    |> options.backoff(1, 50)
  kit.with_pool(name, options, run)
}

fn info(pool) -> Info {
  let assert Ok(Ok(info)) =
    pool.with_connection(pool, kit.long(), connection.info)
  info
}

fn refused(identity: String, tls: tls.Options) -> tls.Reason {
  let server = kit.tls_echo_server(identity, [])
  use pool <- with_tls("refused_" <> identity, server, tls)
  let assert error.Tls(reason) = kit.unavailable(pool)
  reason
}

pub fn request_test() {
  let server = kit.tls_echo_server("server", [])
  use pool <- with_tls("tls", server, trusting())
  kit.echo_through(pool, <<"hello":utf8>>)
  kit.echo_through(pool, kit.copies(<<"0123456789":utf8>>, 1000))
}

pub fn info_test() {
  let server = kit.tls_echo_server("server", ["http/1.1"])
  let tls = trusting() |> tls.alpn(["h2", "http/1.1"])
  use pool <- with_tls("tls_info", server, tls)
  let info = info(pool)
  kit.equal("tls", info.transport)
  let assert Secured("tlsv1.3", cipher, "http/1.1", der, False, False) =
    info.security
  kit.equal("TLS_", prefix(cipher))
  kit.equal(True, kit.size(der) > 100)
}

fn prefix(text: String) -> String {
  case text {
    "TLS_" <> _ -> "TLS_"
    other -> other
  }
}

pub fn versions_and_ciphers_test() {
  let server = kit.tls_echo_server("server", [])
  let tls =
    trusting()
    |> tls.versions([Tls12])
    |> tls.ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
  {
    use pool <- with_tls("tls12", server, tls)
    let assert Secured(
      "tlsv1.2",
      "ECDHE-ECDSA-AES128-GCM-SHA256",
      "",
      _,
      _,
      False,
    ) = info(pool).security
  }
  let tls =
    trusting()
    |> tls.versions([Tls13])
    |> tls.ciphersuites("TLS_CHACHA20_POLY1305_SHA256")
    |> tls.groups("P-256")
    |> tls.session_reuse(False)
    |> tls.ktls(False)
  use pool <- with_tls("tls13", server, tls)
  let assert Secured(
    "tlsv1.3",
    "TLS_CHACHA20_POLY1305_SHA256",
    "",
    _,
    False,
    False,
  ) = info(pool).security
}

pub fn refused_certificates_test() {
  kit.equal(tls.UnknownCa, refused("server", tls.new()))
  kit.equal(
    tls.UnknownCa,
    refused("server", tls.new() |> tls.cacertfile(file("other_ca.pem"))),
  )
  kit.equal(tls.SelfSigned, refused("self", trusting()))
  kit.equal(tls.CertificateExpired, refused("expired", trusting()))
  kit.equal(tls.HostnameMismatch, refused("elsewhere", trusting()))
}

pub fn verify_none_test() {
  let server = kit.tls_echo_server("expired", [])
  let tls = tls.new() |> tls.verify(VerifyNone)
  use pool <- with_tls("verify_none", server, tls)
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn server_name_test() {
  let server = kit.tls_echo_server("elsewhere", [])
  let tls =
    trusting()
    |> tls.verify(VerifyPeer)
    |> tls.server_name("elsewhere.example")
  use pool <- with_tls("server_name", server, tls)
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn not_tls_test() {
  let server = kit.greeting_server("this is no TLS\n")
  use pool <- with_tls("not_tls", server, trusting())
  kit.equal(error.Tls(tls.NotTls), kit.unavailable(pool))
}

pub fn client_certificate_test() {
  let server = kit.tls_echo_server("server", [])
  let tls =
    trusting()
    |> tls.certfile(file("client.pem"))
    |> tls.keyfile(file("client.enc.key"))
    |> tls.password(fn() { "open-sesame" })
  use pool <- with_tls("client", server, tls)
  kit.echo_through(pool, <<"hello":utf8>>)
  kit.equal(Ok(Nil), pool.reload_tls(pool))
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn unusable_files_test() {
  let start = fn(tls) {
    pool.start(pool.named("unusable"), options.tls("127.0.0.1", 7000, tls))
  }
  kit.equal(
    Error(error.Tls(tls.Unusable("cacertfile", "enoent"))),
    start(tls.new() |> tls.cacertfile(file("missing.pem"))),
  )
  kit.equal(
    Error(error.Tls(tls.Unusable("password", "bad_password"))),
    start(
      trusting()
      |> tls.certfile(file("client.pem"))
      |> tls.keyfile(file("client.enc.key"))
      |> tls.password(fn() { "wrong" }),
    ),
  )
}

pub fn cacerts_test() {
  let server = kit.tls_echo_server("self", [])
  let der = {
    use pool <- with_tls(
      "self_seen",
      server,
      tls.new() |> tls.verify(VerifyNone),
    )
    let assert Secured(_, _, _, der, _, _) = info(pool).security
    der
  }
  use pool <- with_tls("cacerts", server, tls.new() |> tls.cacerts([der]))
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn resumption_test() {
  let server = kit.tls_echo_server("server", [])
  let keys = file("keylog")
  let tls = trusting() |> tls.versions([Tls12]) |> tls.keylog(keys)
  use pool <- with_tls("resumption", server, tls)
  kit.echo_through(pool, <<"hello":utf8>>)
  let assert Ok(Ok(Nil)) =
    pool.with_connection(pool, kit.long(), connection.discard)
  kit.wait_until(fn() { kit.stats(pool).created == 2 })
  let assert Secured("tlsv1.2", _, _, _, True, _) = info(pool).security
}

pub fn recv_after_the_server_closed_test() {
  let server = kit.tls_echo_server("server", [])
  use pool <- with_tls("tls_closed", server, trusting())
  let assert Ok(result) =
    pool.with_connection(pool, kit.long(), fn(conn) {
      let assert Ok(Nil) = connection.send(conn, <<"x":utf8>>, kit.long())
      let assert Ok(<<"x":utf8>>) = connection.recv(conn, Bytes(1), kit.long())
      kit.tls_close_connections(server)
      connection.recv(conn, Bytes(1), kit.long())
    })
  kit.equal(Error(error.Closed), result)
}

fn secure(conn, tls: tls.Options) -> Result(Nil, error.Error) {
  let assert Ok(Nil) = connection.send(conn, <<"s":utf8>>, Default)
  let assert Ok(<<"s":utf8>>) = connection.recv(conn, Bytes(1), Default)
  connection.starttls(conn, tls, Infinity)
}

pub fn starttls_in_init_test() {
  let options =
    kit.single(kit.starttls_echo_server("server"))
    |> options.init(fn(conn) {
      let assert Ok(Nil) = secure(conn, trusting())
      Ok(Nil)
    })
  use pool <- kit.with_pool(kit.free_name("starttls"), options)
  kit.echo_through(pool, <<"hello":utf8>>)
  kit.equal("tls", info(pool).transport)
}

pub fn starttls_of_a_lease_test() {
  let options = kit.single(kit.starttls_echo_server("elsewhere"))
  use pool <- kit.with_pool(kit.free_name("starttls"), options)
  let try = fn(tls) {
    pool.with_connection(pool, kit.long(), fn(conn) {
      let result = secure(conn, tls)
      let after = connection.send(conn, <<"x":utf8>>, Default)
      #(result, after)
    })
  }
  kit.equal(Ok(#(Ok(Nil), Ok(Nil))), try(tls.verify(tls.new(), VerifyNone)))
  let mismatch = Error(error.Tls(tls.HostnameMismatch))
  kit.equal(Ok(#(mismatch, mismatch)), try(trusting()))
}
