//// Every reason that sockpool has, and the Gleam value for it. The other tests provoke them; here
//// are those too that only a broken machine or another node could bring.

import sockpool/connection.{Ms, Next}
import sockpool/error
import sockpool/pool
import sockpool/tls
import sockpool_kit as kit

pub fn reasons_test() {
  kit.equal(error.Timeout, kit.reason("timeout"))
  kit.equal(error.Full, kit.reason("full"))
  kit.equal(error.Closed, kit.reason("closed"))
  kit.equal(error.NotFound, kit.reason("not_found"))
  kit.equal(error.Draining, kit.reason("draining"))
  kit.equal(error.NotOwner, kit.reason("not_owner"))
  kit.equal(error.Busy, kit.reason("busy"))
  kit.equal(error.MessageTooLong, kit.reason("emsgsize"))
  kit.equal(error.BadFrame, kit.reason("bad_frame"))
  kit.equal(error.OutOfMemory, kit.reason("enomem"))
  kit.equal(error.SystemLimit, kit.reason("system_limit"))
  kit.equal(error.ProcessNotFound, kit.reason("noproc"))
  kit.equal(error.AlreadyStarted, kit.reason("already_started"))
  kit.equal(error.NotStarted, kit.reason("{not_started, sockpool}"))
  kit.equal(
    error.UnreadBytes("220 hello"),
    kit.reason("{unread_bytes, <<\"220 hello\">>}"),
  )
  kit.equal(
    error.Unavailable(error.DirtySchedulersBusy),
    kit.reason("{unavailable, {timeout, dirty_schedulers}}"),
  )
  kit.equal(error.HostNotFound, kit.reason("nxdomain"))
  kit.equal(error.Posix("ehostunreach"), kit.reason("ehostunreach"))
  kit.equal(error.NodeDown("a@b"), kit.reason("{nodedown, 'a@b'}"))
  kit.equal(error.NotAlive, kit.reason("not_alive"))
  kit.equal(
    error.Exception("throw", "{odd,1}"),
    kit.reason("{exception, throw, {odd, 1}, [stack]}"),
  )
  kit.equal(error.Other("bad_reply"), kit.reason("bad_reply"))
  let assert error.BadRequest(_) = kit.reason("{bad_request, odd}")
  kit.equal(error.Other("{odd,1}"), kit.reason("{odd, 1}"))
  kit.equal(error.InitFailed("no"), kit.reason("{init, <<\"no\">>}"))
  kit.equal(error.InitFailed("{odd,1}"), kit.reason("{init, {odd, 1}}"))
  kit.equal(error.WorkerFailed("no"), kit.reason("{worker, <<\"no\">>}"))
  kit.equal(error.WorkerFailed("killed"), kit.reason("{worker, killed}"))
  kit.equal(error.ValidateFailed("badfun"), kit.reason("{validate, badfun}"))
  kit.equal(
    error.Unavailable(error.Tls(tls.UnknownCa)),
    kit.reason("{unavailable, {tls, unknown_ca}}"),
  )
}

pub fn tls_reasons_test() {
  kit.equal(error.Tls(tls.UnknownCa), kit.reason("{tls, unknown_ca}"))
  kit.equal(error.Tls(tls.SelfSigned), kit.reason("{tls, self_signed}"))
  kit.equal(
    error.Tls(tls.HostnameMismatch),
    kit.reason("{tls, hostname_mismatch}"),
  )
  kit.equal(
    error.Tls(tls.CertificateExpired),
    kit.reason("{tls, certificate_expired}"),
  )
  kit.equal(
    error.Tls(tls.CertificateNotYetValid),
    kit.reason("{tls, certificate_not_yet_valid}"),
  )
  kit.equal(
    error.Tls(tls.CertificateRevoked),
    kit.reason("{tls, certificate_revoked}"),
  )
  kit.equal(error.Tls(tls.InvalidPurpose), kit.reason("{tls, invalid_purpose}"))
  kit.equal(error.Tls(tls.InvalidCa), kit.reason("{tls, invalid_ca}"))
  kit.equal(
    error.Tls(tls.WeakCertificate),
    kit.reason("{tls, weak_certificate}"),
  )
  kit.equal(
    error.Tls(tls.BadCertificateSignature),
    kit.reason("{tls, bad_certificate_signature}"),
  )
  kit.equal(error.Tls(tls.BadCertificate), kit.reason("{tls, bad_certificate}"))
  kit.equal(
    error.Tls(tls.ProtocolVersion),
    kit.reason("{tls, protocol_version}"),
  )
  kit.equal(error.Tls(tls.NoSharedCipher), kit.reason("{tls, no_shared_cipher}"))
  kit.equal(
    error.Tls(tls.SignatureAlgorithm),
    kit.reason("{tls, signature_algorithm}"),
  )
  kit.equal(error.Tls(tls.WeakDhKey), kit.reason("{tls, weak_dh_key}"))
  kit.equal(
    error.Tls(tls.LegacyRenegotiation),
    kit.reason("{tls, legacy_renegotiation}"),
  )
  kit.equal(error.Tls(tls.NotTls), kit.reason("{tls, not_tls}"))
  kit.equal(
    error.Tls(tls.Alert("handshake_failure")),
    kit.reason("{tls, {alert, handshake_failure}}"),
  )
  kit.equal(error.Tls(tls.ClosedInHandshake), kit.reason("{tls, closed}"))
  kit.equal(error.Tls(tls.Truncated), kit.reason("{tls, truncated}"))
  kit.equal(error.Tls(tls.BadRecordMac), kit.reason("{tls, bad_record_mac}"))
  kit.equal(error.Tls(tls.ProtocolError), kit.reason("{tls, protocol_error}"))
  kit.equal(error.Tls(tls.NoCertificate), kit.reason("{tls, no_certificate}"))
  kit.equal(
    error.Tls(tls.Unusable("cacertfile", "enoent")),
    kit.reason("{tls, {cacertfile, enoent}}"),
  )
  kit.equal(error.Tls(tls.OtherReason("odd")), kit.reason("{tls, odd}"))
}

pub fn describe_test() {
  kit.equal(
    "no connection is up: TLS: the server refuses: handshake_failure",
    error.describe(
      error.Unavailable(error.Tls(tls.Alert("handshake_failure"))),
    ),
  )
  kit.equal(
    "the function raised error: badarg",
    error.describe(error.Exception("error", "badarg")),
  )
  kit.equal(
    "no connection is up: the system says econnrefused",
    error.describe(error.Unavailable(error.Posix("econnrefused"))),
  )
}
