%% @doc The server's key and certificate of the TLS runs, and the root that clients verify it by.
%%
%% They are made anew at the start of a run, for "localhost" and 127.0.0.1, and expire after a week.
%% The key is on the curve P-256, as most servers' keys are by now.
-module(sockpool_bench_certificates).

-export([make/0, cacertfile/0, certfile/0, keyfile/0, server_name/0]).

-include_lib("public_key/include/public_key.hrl").

%% @doc Writes the three files.
-spec make() -> ok.
make() ->
    Form = [{key, {namedCurve, ?secp256r1}}, {digest, sha256}],
    Chain = public_key:pkix_test_data(#{root => Form, intermediates => [],
                                        peer => [{extensions, [names()]} | Form]}),
    [Root | _] = proplists:get_value(cacerts, Chain),
    write(cacertfile(), 8#644, [{'Certificate', Root, not_encrypted}]),
    write(certfile(), 8#644, [{'Certificate', proplists:get_value(cert, Chain), not_encrypted}]),
    {KeyType, KeyDer} = proplists:get_value(key, Chain),
    write(keyfile(), 8#600, [{KeyType, KeyDer, not_encrypted}]).

-spec cacertfile() -> file:filename().
cacertfile() -> sockpool_bench_paths:result("tls_root.pem").

-spec certfile() -> file:filename().
certfile() -> sockpool_bench_paths:result("tls_server.pem").

-spec keyfile() -> file:filename().
keyfile() -> sockpool_bench_paths:result("tls_server_key.pem").

%% @doc What the certificate is for.
-spec server_name() -> string().
server_name() -> "localhost".

names() ->
    #'Extension'{extnID = ?'id-ce-subjectAltName', critical = false,
                 extnValue = [{dNSName, server_name()}, {iPAddress, <<127, 0, 0, 1>>}]}.

%% Nobody else may read the key, not even for a moment.
write(File, Mode, Entries) ->
    ok = file:write_file(File, <<>>),
    ok = file:change_mode(File, Mode),
    ok = file:write_file(File, public_key:pem_encode(Entries)).
