%%% @private
%%% What the reasons of `{tls, Reason}' are in words.
-module(sockpool_tls_error).

-export([format/1]).

%% @doc Why a connection failed, or a file or another option is of no use.
-spec format(term()) -> iolist().
format({alert, Name}) ->
    ["TLS: the server refuses: ", alert(Name)];
format({password, badfun}) ->
    ["tls ", sockpool_error:fun_is_gone(password, 0)];
format({Option, Why}) ->
    io_lib:format("tls option ~0tP cannot be used: ~ts", [Option, 20, why(Option, Why)]);
format(Reason) ->
    ["TLS: ", reason(Reason)].

reason(unknown_ca) -> "no trusted authority has signed the server's certificate (unknown_ca)";
reason(self_signed) -> "the server signed its certificate itself: trust it by cacertfile (self_signed)";
reason(hostname_mismatch) -> "the certificate is made out to another name: see server_name (hostname_mismatch)";
reason(certificate_expired) -> "the server's certificate has expired (certificate_expired)";
reason(certificate_not_yet_valid) -> "the server's certificate is not valid yet (certificate_not_yet_valid)";
reason(certificate_revoked) -> "the server's certificate was revoked (certificate_revoked)";
reason(no_certificate) -> "the server showed no certificate (no_certificate)";
reason(invalid_purpose) -> "the server's certificate is for another purpose (invalid_purpose)";
reason(invalid_ca) -> "an issuer of the server's certificate is no authority (invalid_ca)";
reason(weak_certificate) -> "the key or digest of a certificate is too weak (weak_certificate)";
reason(bad_certificate_signature) -> "the signature of a certificate is wrong (bad_certificate_signature)";
reason(bad_certificate) -> "the server's certificate is bad (bad_certificate)";
reason(protocol_version) -> "the two sides have no version in common (protocol_version)";
reason(no_shared_cipher) -> "the two sides have no cipher in common (no_shared_cipher)";
reason(signature_algorithm) -> "the two sides have no signature algorithm in common (signature_algorithm)";
reason(weak_dh_key) -> "the server's Diffie-Hellman key is too small (weak_dh_key)";
reason(legacy_renegotiation) -> "the server wants unsafe renegotiation (legacy_renegotiation)";
reason(not_tls) -> "the server speaks another protocol on this port (not_tls)";
reason(closed) -> "the server closed the socket during the handshake (closed)";
reason(truncated) -> "the stream ended without the server's word that it does (truncated)";
reason(bad_record_mac) -> "what came was damaged or forged (bad_record_mac)";
reason(protocol_error) -> "what came was against the protocol (protocol_error)";
reason(Reason) -> io_lib:format("~0tP", [Reason, 30]).

alert(handshake_failure) ->
    "no cipher or group in common, or it wants a client certificate (handshake_failure)";
alert(certificate_required) ->
    "it wants a client certificate: see certfile (certificate_required)";
alert(Name) when Name =:= unknown_ca; Name =:= certificate_expired; Name =:= certificate_revoked ->
    io_lib:format("it does not take our certificate (~ts)", [Name]);
alert(Name) ->
    io_lib:format("~0tP", [Name, 20]).

why(_Option, enoent) -> "there is no such file (enoent)";
why(_Option, eacces) -> "the file may not be read (eacces)";
why(_Option, einval) -> "it is no file but a directory or the like (einval)";
why(_Option, no_certificate) -> "there is no certificate in PEM in the file (no_certificate)";
why(_Option, no_key) -> "there is no key in PEM in the file (no_key)";
why(_Option, bad_certificate) -> "the certificate cannot be read (bad_certificate)";
why(_Option, key_does_not_fit_certificate) ->
    "the key belongs to another certificate (key_does_not_fit_certificate)";
why(_Option, encrypted) -> "a certificate must not be encrypted (encrypted)";
why(_Option, password_required) -> "the key is encrypted, and there is no password (password_required)";
why(_Option, bad_password) -> "the key is encrypted, and the password is wrong (bad_password)";
why(password, raised) -> "its function raised an exception (raised)";
why(password, not_iodata) -> "its function returned something that is no iodata (not_iodata)";
why(password, timeout) -> "its function took longer than connect_timeout (timeout)";
why(_Option, unknown) -> "OpenSSL does not know a name in it (unknown)";
why(_Option, Why) -> io_lib:format("~0tP", [Why, 30]).
