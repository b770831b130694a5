//// What can go wrong at run time.

import sockpool/tls

pub type Error {
  /// No connection came free in time, or the bytes did not get through in time.
  Timeout
  /// As `Timeout`, and no connection is up because connecting fails with `last`.
  Unavailable(last: Error)
  /// The timeout is 0 and nothing is idle, or `max_waiting` processes wait already.
  Full
  /// The server closed the connection; or it was checked in before, its `max_hold` is over, the
  /// pool was stopped, or the pool's process crashed.
  Closed
  /// There is no such pool, or it was stopped.
  NotFound
  /// The pool was stopped while the caller waited.
  Draining
  /// Another process has the connection.
  NotOwner
  /// A call waits on the connection already; or it was given back inside `init`; or, on a connection
  /// to a node, `max_inflight` calls are under way.
  Busy
  /// A message, or the length asked for, is longer than `recv_limit`, or a message does not fit
  /// into its packet header.
  MessageTooLong
  /// What the server sent is no message of the connection's framing, and cannot become one.
  BadFrame
  OutOfMemory
  /// The VM has no process or port to spare that this needs.
  SystemLimit
  /// `give_away`: that process is dead. The connection is still the caller's.
  ProcessNotFound
  /// TLS failed, or a file that its options name cannot be used.
  Tls(reason: tls.Reason)
  /// What the system said, such as `"econnreset"`.
  Posix(code: String)
  /// In `Unavailable`: no name server knows the pool's host.
  HostNotFound
  /// In `Unavailable`: the server spoke first, this, and no `init` read it. Of `connection.starttls`: it
  /// came before TLS began. At most 64 characters.
  UnreadBytes(text: String)
  /// In `Unavailable`: a handshake waited most of its time for a dirty CPU scheduler of this VM.
  DirtySchedulersBusy
  /// In `Unavailable`: `init` returned this, or crashed with this.
  InitFailed(reason: String)
  /// In `Unavailable`: a worker could not be started, or the last one that ended did with this.
  WorkerFailed(reason: String)
  /// In `Unavailable`: `validate` crashed with this, or returned it in place of `True` or `False`.
  ValidateFailed(reason: String)
  /// Starting a pool, `set`: the key, such as `"size"` or `"tls.cacertfile"`, and a sentence that
  /// says what is allowed.
  BadOption(key: String, explanation: String)
  /// `pool.update`: this option cannot change while the pool runs.
  NeedsRestart(key: String)
  /// An argument out of its range, and a sentence that says what is allowed.
  BadArgument(name: String, explanation: String)
  /// Starting: a pool of that name runs.
  AlreadyStarted
  /// Starting: the Erlang application sockpool does not run. See `pool.ensure_started`.
  NotStarted
  /// There is no connection to the node that serves the pool, or it was lost during the call.
  NodeDown(node: String)
  /// A pool of another node: this VM is no node itself.
  NotAlive
  /// A function that the other node was to call raised an exception: its class is `"error"`, `"exit"`
  /// or `"throw"`, its reason in Erlang's notation, without the stack.
  Exception(class: String, reason: String)
  /// The serving node does not know the request: it runs another version of sockpool.
  BadRequest(explanation: String)
  /// Anything else, in Erlang's notation.
  Other(reason: String)
}

/// A sentence for a log.
pub fn describe(error: Error) -> String {
  case error {
    Timeout -> "the time was over"
    Unavailable(last) -> "no connection is up: " <> describe(last)
    Full -> "nothing is idle, and the caller may not wait"
    Closed -> "the connection is closed"
    NotFound -> "there is no such pool"
    Draining -> "the pool is being stopped"
    NotOwner -> "the connection belongs to another process"
    Busy -> "a call waits on the connection already"
    MessageTooLong -> "the message is too long"
    BadFrame -> "the server has sent what is no message of the framing"
    OutOfMemory -> "memory is short"
    SystemLimit -> "the VM has no process or port to spare"
    ProcessNotFound -> "the process is dead"
    Tls(reason) -> "TLS: " <> tls_reason(reason)
    Posix(code) -> "the system says " <> code
    HostNotFound -> "the host's name is not known"
    UnreadBytes(text) ->
      "the server spoke first, and nobody has read it: " <> text
    DirtySchedulersBusy -> "others keep the dirty schedulers busy"
    InitFailed(reason) -> "init failed: " <> reason
    WorkerFailed(reason) -> "a worker failed: " <> reason
    ValidateFailed(reason) -> "validate failed: " <> reason
    BadOption(_, explanation) -> explanation
    NeedsRestart(key) ->
      "the option " <> key <> " cannot change while the pool runs"
    BadArgument(_, explanation) -> explanation
    AlreadyStarted -> "a pool of that name runs already"
    NotStarted -> "the application sockpool is not started"
    NodeDown(node) -> "there is no connection to the node " <> node
    NotAlive -> "this VM is no node: start it with -name or -sname"
    Exception(class, reason) -> "the function raised " <> class <> ": " <> reason
    BadRequest(explanation) -> explanation
    Other(reason) -> reason
  }
}

fn tls_reason(reason: tls.Reason) -> String {
  case reason {
    tls.UnknownCa -> "no trusted authority has signed the server's certificate"
    tls.SelfSigned -> "the server signed its certificate itself"
    tls.HostnameMismatch -> "the certificate is made out to another host"
    tls.CertificateExpired -> "the certificate has expired"
    tls.CertificateNotYetValid -> "the certificate is not valid yet"
    tls.CertificateRevoked -> "the certificate was revoked"
    tls.InvalidPurpose -> "the certificate is for another purpose"
    tls.InvalidCa -> "an issuer is no authority"
    tls.WeakCertificate -> "the certificate's key or digest is too weak"
    tls.BadCertificateSignature -> "the certificate's signature is wrong"
    tls.BadCertificate -> "the certificate is bad"
    tls.ProtocolVersion -> "no version in common"
    tls.NoSharedCipher -> "no cipher in common"
    tls.SignatureAlgorithm -> "no signature algorithm in common"
    tls.WeakDhKey -> "the server's Diffie-Hellman key is too small"
    tls.LegacyRenegotiation -> "the server wants unsafe renegotiation"
    tls.NotTls -> "the server speaks another protocol"
    tls.Alert(name) -> "the server refuses: " <> name
    tls.ClosedInHandshake -> "the server closed the socket in the handshake"
    tls.Truncated -> "the stream ended without notice"
    tls.BadRecordMac -> "a damaged or forged record"
    tls.ProtocolError -> "a record against the protocol"
    tls.NoCertificate -> "the server showed no certificate"
    tls.Unusable(option, why) -> option <> " cannot be used: " <> why
    tls.OtherReason(text) -> text
  }
}
