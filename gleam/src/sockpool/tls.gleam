//// The options of TLS pools, and the reasons for which TLS fails.
////
//// What is not set has its default: the server's certificate must be signed by an authority of the
//// system's store, be valid now, and be made out to the pool's host.

/// Made by `new`; changed by the functions below; used by `options.tls`.
pub opaque type Options {
  Options(settings: List(Setting))
}

type Setting {
  Verify(Verify)
  Cacertfile(String)
  Cacerts(List(BitArray))
  ServerName(String)
  Certfile(String)
  Keyfile(String)
  Password(fn() -> String)
  Versions(List(Version))
  Ciphers(String)
  Ciphersuites(String)
  Groups(String)
  Alpn(List(String))
  SessionReuse(Bool)
  Keylog(String)
  Ktls(Bool)
}

pub type Verify {
  /// The default.
  VerifyPeer
  /// Accepts any certificate, and so any attacker: for tests only.
  VerifyNone
}

pub type Version {
  Tls12
  Tls13
}

/// What TLS says against a connection, or against a file that the options name.
pub type Reason {
  /// No trusted authority has signed the server's certificate.
  UnknownCa
  /// The server signed its certificate itself. Trust it by naming it in `cacertfile`.
  SelfSigned
  /// The certificate is made out to another name or address: see `server_name`.
  HostnameMismatch
  CertificateExpired
  CertificateNotYetValid
  CertificateRevoked
  InvalidPurpose
  InvalidCa
  WeakCertificate
  BadCertificateSignature
  BadCertificate
  /// The two sides have no version in common that is still safe.
  ProtocolVersion
  NoSharedCipher
  SignatureAlgorithm
  WeakDhKey
  LegacyRenegotiation
  /// The server speaks another protocol on this port.
  NotTls
  /// The server refuses, for the reason that RFC 8446 calls by this name, such as
  /// `"handshake_failure"`.
  Alert(name: String)
  /// The server closed the socket during the handshake.
  ClosedInHandshake
  /// The stream ended without the server's word that it does: something may be missing.
  Truncated
  BadRecordMac
  ProtocolError
  /// The server showed no certificate.
  NoCertificate
  /// A file or value of this option cannot be used: `Unusable("cacertfile", "enoent")`.
  Unusable(option: String, why: String)
  /// Anything else, in Erlang's notation.
  OtherReason(String)
}

/// Options with their defaults.
pub fn new() -> Options {
  Options([])
}

/// Whether the server's certificate is verified. The default is `VerifyPeer`.
pub fn verify(options: Options, verify: Verify) -> Options {
  set(options, Verify(verify))
}

/// A PEM file of the authorities to trust, in place of the system's store.
pub fn cacertfile(options: Options, path: String) -> Options {
  set(options, Cacertfile(path))
}

/// The same as a list of DER certificates: at least one, and no `cacertfile` with it.
pub fn cacerts(options: Options, certificates: List(BitArray)) -> Options {
  set(options, Cacerts(certificates))
}

/// The name or IP address to ask for and to verify, where it is not the pool's host.
pub fn server_name(options: Options, name: String) -> Options {
  set(options, ServerName(name))
}

/// A PEM file with the client's certificate, and after it those between it and the root.
pub fn certfile(options: Options, path: String) -> Options {
  set(options, Certfile(path))
}

/// A PEM file with the key of `certfile`. Without it the key is looked for in `certfile`.
pub fn keyfile(options: Options, path: String) -> Options {
  set(options, Keyfile(path))
}

/// Returns the password of an encrypted key. Called when the pool starts and at each reload.
pub fn password(options: Options, get: fn() -> String) -> Options {
  set(options, Password(get))
}

/// Which versions to allow. The default is both.
pub fn versions(options: Options, versions: List(Version)) -> Options {
  set(options, Versions(versions))
}

/// For TLS 1.2, as `openssl ciphers` writes them.
pub fn ciphers(options: Options, ciphers: String) -> Options {
  set(options, Ciphers(ciphers))
}

/// For TLS 1.3, such as `"TLS_AES_128_GCM_SHA256"`; several have `:` between them.
pub fn ciphersuites(options: Options, suites: String) -> Options {
  set(options, Ciphersuites(suites))
}

/// For the key exchange, such as `"X25519:P-256"`.
pub fn groups(options: Options, groups: String) -> Options {
  set(options, Groups(groups))
}

/// Names of protocols to offer, such as `["http/1.1"]`.
pub fn alpn(options: Options, protocols: List(String)) -> Options {
  set(options, Alpn(protocols))
}

/// Whether sessions are resumed, which makes a new connection cheaper. The default is `True`.
pub fn session_reuse(options: Options, reuse: Bool) -> Options {
  set(options, SessionReuse(reuse))
}

/// A file to which the keys of connections are appended, for debugging. Whoever reads it can read
/// all traffic.
pub fn keylog(options: Options, path: String) -> Options {
  set(options, Keylog(path))
}

/// Whether the kernel encrypts where it can. The default is `False`.
pub fn ktls(options: Options, ktls: Bool) -> Options {
  set(options, Ktls(ktls))
}

fn set(options: Options, setting: Setting) -> Options {
  Options([setting, ..options.settings])
}
