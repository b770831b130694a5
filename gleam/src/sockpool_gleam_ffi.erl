%%% Between the types of the Gleam modules sockpool/* and the Erlang module sockpool.
-module(sockpool_gleam_ffi).

-export([named/1, unnamed/0, on_node/2, ensure_started/0, start/2, stop/1, start_link/2, child_spec/2]).
-export([names/0, names_on/1, stats/1, histograms/1, explain/1, reload_tls/1, update/2, resize/3, await_ready/3, with_connection/3, request/4, request_many/4, checkout/2]).
-export([send/3, recv/3, recv_until/3, checkin/1, checkin_clean/1, discard/1, give_away/2, set/2, state/1, set_state/2, starttls/3, info/1]).
-export([reason/1]).
-export([check/1, start_function/1, map/1, ms/1, result/1]).
-export_type([options/0, milliseconds/0]).

-type pool() :: sockpool:pool() | binary() | {binary(), binary()}.
-type options() :: {options, [tuple()]}.
-type milliseconds() :: {ms, integer()} | infinity | default.
-type result(Ok) :: {ok, Ok} | {error, term()}.
%% The term of an error is a value of the Gleam type Error.

-define(MAX_ATOM_CHARS, 255).

%%% Pools.

%% A name that no atom can have stays a binary, which sockpool then refuses by name.
-spec named(binary()) -> pool().
named(Name) ->
    %% Code points, of which a character may have several.
    case length(unicode:characters_to_list(Name)) =< ?MAX_ATOM_CHARS of
        true -> binary_to_atom(Name);
        false -> Name
    end.

-spec unnamed() -> pool().
unnamed() -> sockpool:unnamed().

-spec on_node(binary(), binary()) -> pool().
on_node(Name, Node) -> {named(Name), named(Node)}.

-spec ensure_started() -> result(nil).
ensure_started() ->
    case application:ensure_all_started(sockpool) of
        {ok, _} -> {ok, nil};
        {error, Reason} -> {error, {other, explanation(Reason)}}
    end.

-spec start(pool(), options()) -> result(nil).
start(Pool, Options) ->
    result(sockpool:start_pool(Pool, map(Options))).

-spec stop(pool()) -> result(nil).
stop(Pool) -> result(sockpool:stop_pool(Pool)).

-spec start_link(pool(), options()) -> result(pid()).
start_link(Pool, Options) -> result(sockpool:start_link(Pool, map(Options))).

-spec child_spec(pool(), options()) -> supervisor:child_spec().
child_spec(Pool, Options) -> sockpool:child_spec(Pool, map(Options)).

-spec names() -> [binary()].
names() ->
    {ok, Names} = sockpool:which_pools(),
    [atom_to_binary(Name) || Name <- Names].

-spec names_on(binary()) -> result([binary()]).
names_on(Node) ->
    case sockpool:which_pools(named(Node)) of
        {ok, Names} -> {ok, [atom_to_binary(Name) || Name <- Names]};
        {error, Reason} -> {error, reason(Reason)}
    end.

-spec stats(pool()) -> result(tuple()).
stats(Pool) ->
    case sockpool:stats(Pool) of
        {ok, #{name := Name, last_error := Last, last_error_at := At} = Stats} ->
            %% The order of the fields in the type Stats.
            %% A server of before has fewer.
            Figures = [maps:get(Key, Stats, 0)
                       || Key <- [size, max_overflow, total, idle, leased, connecting, waiting, oldest_wait,
                                  checkouts, checkins, created, reused, closed, abandoned, leaked, waited, timeouts, exhausted,
                                  pipelined, health_ok, health_failed, deferred, connect_attempts, connect_failures]],
            Reasons = [[{constructor(Prefix, Reason), Count} || {Reason, Count} <- lists:sort(maps:to_list(maps:get(Key, Stats, #{})))]
                       || {Key, Prefix} <- [{closed_by, ""}, {connect_failed_by, "connect_"}, {errors, "checkout_"}]],
            {ok, list_to_tuple([stats, name(Name) | Figures] ++ Reasons ++ last_error(Last, At))};
        {error, Reason} ->
            {error, reason(Reason)}
    end.

%% One without a name has none.
name(Name) when is_atom(Name) -> atom_to_binary(Name);
name(_Pool) -> <<>>.

-spec histograms(pool()) -> result(tuple()).
histograms(Pool) ->
    case sockpool:histograms(Pool) of
        {ok, #{connect := Connect} = All} ->
            {ok, list_to_tuple([histograms, maps:get(bounds, All)]
                               ++ [histogram(maps:get(Key, All)) || Key <- [use, wait, idle, age]]
                               ++ [histogram(maps:get(Key, Connect)) || Key <- [total, resolve, tcp, tls, init]])};
        {error, Reason} ->
            {error, reason(Reason)}
    end.

-spec explain(pool()) -> result([tuple()]).
explain(Pool) ->
    case sockpool:explain(Pool) of
        {ok, Findings} -> {ok, [{finding, severity(Severity), cause(Cause), Text}
                                || #{severity := Severity, cause := Cause, text := Text} <- Findings]};
        {error, Reason} -> {error, reason(Reason)}
    end.

%% Of the types Severity and Cause.
severity(ok) -> well;
severity(error) -> severe;
severity(Severity) -> Severity.

cause(stopped) -> not_running;
cause(init) -> init_fails;
cause(worker) -> worker_fails;
cause(connect) -> connect_fails;
cause(health) -> unhealthy;
cause(Cause) ->
    case lists:member(Cause, [healthy, crashed, host_down, dns, certificate_expired, tls, limits, leak, dead_owners, slow_server, overload,
                              pool_too_small, connecting, long_lease, churn]) of
        true -> Cause;
        false -> {other_cause, atom_to_binary(Cause)}
    end.

%% Of the types CloseReason, ConnectFailure and CheckoutError.
constructor(Prefix, Reason) -> list_to_atom(Prefix ++ atom_to_list(Reason)).

histogram(#{count := Count, sum := Sum, buckets := Buckets}) -> {histogram, Count, Sum, Buckets}.

last_error(undefined, undefined) -> [{error, nil}, {error, nil}];
last_error(Reason, At) -> [{ok, reason(Reason)}, {ok, At}].

-spec update(pool(), options()) -> result(nil).
update(Pool, Changes) -> result(sockpool:update(Pool, map(Changes))).

-spec resize(pool(), integer(), integer()) -> result(nil).
resize(Pool, Size, MaxOverflow) -> result(sockpool:resize(Pool, Size, MaxOverflow)).

-spec await_ready(pool(), integer(), milliseconds()) -> result(nil).
await_ready(Pool, Connections, default) -> result(sockpool:await_ready(Pool, #{count => Connections}));
await_ready(Pool, Connections, Timeout) -> result(sockpool:await_ready(Pool, #{count => Connections, timeout => ms(Timeout)})).

-spec reload_tls(pool()) -> result(nil).
reload_tls(Pool) -> result(sockpool:reload_tls(Pool)).

-spec with_connection(pool(), milliseconds(), fun((sockpool:conn()) -> A)) -> result(A).
with_connection(Pool, default, Fun) -> ran(sockpool:execute(Pool, streams(Fun)));
with_connection(Pool, Timeout, Fun) -> ran(sockpool:execute(Pool, streams(Fun), ms(Timeout))).

%% Of a pool of workers it would be the process, which is no connection.
streams(Fun) ->
    fun(Worker) when is_pid(Worker) -> {?MODULE, worker};
       (Conn) -> Fun(Conn)
    end.

ran({ok, {?MODULE, worker}}) -> result({error, {bad_option, transport, worker}});
ran(Result) -> result(Result).

-spec request(pool(), bitstring(), {bytes, integer()} | next, milliseconds()) -> result(binary()).
request(Pool, Data, Length, Timeout) ->
    result(sockpool:request(Pool, Data, wanted(Length), ms(Timeout))).

-spec request_many(pool(), [bitstring()], {bytes, integer()} | next, milliseconds()) -> [result(binary())].
request_many(Pool, Requests, Length, Timeout) ->
    case sockpool:request_many(Pool, Requests, wanted(Length), ms(Timeout)) of
        Results when is_list(Results) -> [result(Result) || Result <- Results];
        {error, _} = Refused -> [result(Refused) || _ <- Requests]
    end.

wanted(next) -> packet;
wanted({bytes, Bytes}) -> Bytes.

-spec checkout(pool(), milliseconds()) -> result(sockpool:conn()).
checkout(Pool, default) -> result(sockpool:checkout(Pool));
checkout(Pool, Timeout) -> result(sockpool:checkout(Pool, ms(Timeout))).

%%% Connections.

-spec send(sockpool:conn(), bitstring(), milliseconds()) -> result(nil).
send(Conn, Data, default) -> result(sockpool:send(Conn, Data));
send(Conn, Data, Timeout) -> result(sockpool:send(Conn, Data, ms(Timeout))).

-spec recv(sockpool:conn(), {bytes, integer()} | next, milliseconds()) -> result(binary()).
recv(Conn, next, Timeout) -> result(sockpool:recv(Conn, packet, ms(Timeout)));
recv(Conn, {bytes, Bytes}, Timeout) -> result(sockpool:recv(Conn, Bytes, ms(Timeout))).

-spec recv_until(sockpool:conn(), fun((binary()) -> boolean()), milliseconds()) -> result([binary()]).
recv_until(Conn, IsLast, Timeout) -> result(sockpool:recv_until(Conn, IsLast, ms(Timeout))).

-spec checkin(sockpool:conn()) -> result(nil).
checkin(Conn) -> result(sockpool:checkin(Conn)).

-spec checkin_clean(sockpool:conn()) -> result(nil).
checkin_clean(Conn) -> result(sockpool:checkin(Conn, clean)).

-spec discard(sockpool:conn()) -> result(nil).
discard(Conn) -> result(sockpool:discard(Conn)).

-spec give_away(sockpool:conn(), term()) -> result(nil).
give_away(Conn, Pid) -> result(sockpool:give_away(Conn, Pid)).

-spec set(sockpool:conn(), [tuple()]) -> result(nil).
set(Conn, Settings) ->
    result(sockpool:setopts(Conn, [{Key, value(Key, Value)} || {Key, Value} <- Settings])).

-spec state(sockpool:conn()) -> result(term()).
state(Conn) -> result(sockpool:state(Conn)).

-spec set_state(sockpool:conn(), term()) -> result(nil).
set_state(Conn, Value) -> result(sockpool:set_state(Conn, Value)).

-spec starttls(sockpool:conn(), options(), milliseconds()) -> result(nil).
starttls(Conn, Tls, Timeout) -> result(sockpool:starttls(Conn, map(Tls), ms(Timeout))).

-spec info(sockpool:conn()) -> result(tuple()).
info(Conn) ->
    case sockpool:info(Conn) of
        {ok, #{pool := Pool, transport := Transport, age := AgeMs, peername := Peer,
               sockname := Local, packet := Packet} = Info} ->
            {ok, {info, name(Pool), atom_to_binary(Transport), AgeMs, address(Peer),
                  address(Local), security(Info), packet(Packet), tcp(Info)}};
        {ok, #{transport := Transport}} ->
            {error, reason({bad_option, transport, Transport})};
        {error, Reason} ->
            {error, reason(Reason)}
    end.

address({local, Path}) -> {local, Path};
address({Ip, Port}) -> {ip, list_to_binary(inet:ntoa(Ip)), Port}.

packet(1) -> header1;
packet(2) -> header2;
packet(4) -> header4;
packet({length, #{offset := Offset, bytes := Bytes, endian := Endian, adjust := Adjust, header := Header}}) ->
    {length, {length_field, Offset, Bytes, endian(Endian), Adjust, Header}};
packet(Packet) -> Packet.

endian(big) -> big_endian;
endian(little) -> little_endian.

security(#{protocol := Protocol, cipher := Cipher, alpn := Alpn, peercert := Cert,
           resumed := Resumed, ktls := Ktls}) ->
    {secured, atom_to_binary(Protocol), Cipher, or_empty(Alpn), or_empty(Cert), Resumed, Ktls};
security(_Info) ->
    plain.

%% Nothing where the system does not tell.
tcp(#{tcp := #{rtt := Rtt, rtt_var := RttVar, retransmits := Retransmits, total_retrans := Total, unacked := Unacked,
               lost := Lost, cwnd := Cwnd, last_recv_ms := LastRecvMs} = Tcp}) ->
    {ok, {tcp, Rtt, RttVar, known(min_rtt, Tcp), Retransmits, Total, Unacked, Lost, Cwnd, LastRecvMs, known(delivery_rate, Tcp)}};
tcp(_Info) ->
    {error, nil}.

known(Key, Tcp) ->
    case Tcp of
        #{Key := Value} -> {ok, Value};
        #{} -> {error, nil}
    end.

or_empty(undefined) -> <<>>;
or_empty(Value) -> Value.

%%% Options. What is set last stands first in the list.

-spec check(options()) -> result(nil).
check(Options) ->
    case sockpool_opts:parse(checked, map(Options)) of
        {ok, _} -> {ok, nil};
        {error, Reason} -> {error, reason(Reason)}
    end.

-spec start_function(Start) -> Start.
start_function(Start) -> Start.

-spec map(options()) -> map().
map({options, Settings}) ->
    lists:foldr(fun put_setting/2, #{}, Settings).

put_setting({Key, default}, Map) -> maps:remove(Key, Map);
put_setting({backoff, Min, Max}, Map) -> Map#{backoff => {Min, Max}};
put_setting({Key, Value}, Map) -> Map#{Key => value(Key, Value)}.

value(transport, transport_tcp) -> tcp;
value(transport, transport_tls) -> tls;
value(transport, transport_unix) -> unix;
value(transport, transport_node) -> node;
value(transport, transport_worker) -> worker;
value(keepalive, keepalive_on) -> true;
value(keepalive, keepalive_off) -> false;
value(keepalive, {keepalive_times, Idle, Interval, Count}) -> #{idle => Idle, interval => Interval, count => Count};
value(health, {ask, Send, Expect, Interval, Timeout}) ->
    #{send => Send, expect => expect(Expect), interval => Interval, timeout => Timeout};
value(health, {call, Check, Interval, Timeout}) ->
    #{check => fun(Conn) -> init_result(Check(Conn)) end, interval => Interval, timeout => Timeout};
value(health, no_checks) -> undefined;
value(node, Text) -> named(Text);
value(tls, Options) -> map(Options);
value(packet, header1) -> 1;
value(packet, header2) -> 2;
value(packet, header4) -> 4;
value(packet, {length, {length_field, Offset, Bytes, Endian, Adjust, Header}}) ->
    Big = #{big_endian => big, little_endian => little},
    {length, #{offset => Offset, bytes => Bytes, endian => maps:get(Endian, Big), adjust => Adjust, header => Header}};
value(_Key, {at_most, Count}) -> Count;
value(_Key, no_limit) -> infinity;
value(max_lifetime, {up_to, Ms}) -> Ms;
value(max_lifetime, {between, Min, Max}) -> {Min, Max};
value(max_lifetime, unlimited) -> infinity;
value(validate, {after_idle, Ms}) -> {'after', Ms};
value(init, Fun) -> fun(Conn) -> init_result(Fun(Conn)) end;
value(bind, Text) -> ip(Text);
value(verify, verify_peer) -> peer;
value(verify, verify_none) -> none;
value(versions, Versions) -> [version(Version) || Version <- Versions];
value(_Key, {ms, Ms}) -> Ms;
value(_Key, Value) -> Value.

expect({exactly, Bytes}) -> Bytes;
expect({starting_with, Bytes}) -> {prefix, Bytes}.

init_result({ok, nil}) -> ok;
init_result({error, Reason}) -> {error, Reason}.

%% What is no address stays as it is, and sockpool refuses it.
ip(Text) ->
    case inet:parse_strict_address(unicode:characters_to_list(Text)) of
        {ok, Ip} -> Ip;
        {error, einval} -> Text
    end.

version(tls12) -> 'tlsv1.2';
version(tls13) -> 'tlsv1.3'.

-spec ms(milliseconds()) -> term().
ms({ms, Ms}) -> Ms;
ms(infinity) -> infinity;
ms(default) -> 5000.

%%% Errors.

-spec result(ok | {ok, Ok} | {error, term()}) -> result(Ok | nil).
result(ok) -> {ok, nil};
result({ok, _} = Ok) -> Ok;
result({error, Reason}) -> {error, reason(Reason)}.

%% As a value of the Gleam type Error.
-spec reason(term()) -> atom() | tuple().
reason(emsgsize) -> message_too_long;
reason(enomem) -> out_of_memory;
reason(noproc) -> process_not_found;
reason(nxdomain) -> host_not_found;
reason(already_started) -> already_started;
reason({already_started, _Pid}) -> already_started;
reason({not_started, sockpool}) -> not_started;
reason({unavailable, Last}) -> {unavailable, reason(Last)};
reason({timeout, dirty_schedulers}) -> dirty_schedulers_busy;
reason({tls, Reason}) -> {tls, tls_reason(Reason)};
reason({init, Reason}) -> {init_failed, words(Reason)};
reason({worker, Reason}) -> {worker_failed, words(Reason)};
reason({validate, Reason}) -> {validate_failed, words(Reason)};
reason({needs_restart, Key}) -> {needs_restart, key(Key)};
reason({bad_option, Key, _Value} = Bad) -> {bad_option, key(Key), explanation(Bad)};
reason({bad_argument, Name, _Value} = Bad) -> {bad_argument, key(Name), explanation(Bad)};
reason({bad_request, _Request} = Bad) -> {bad_request, explanation(Bad)};
reason({exception, Class, Reason, _Stack}) -> {exception, atom_to_binary(Class), text(Reason)};
reason({unread_bytes, Text}) -> {unread_bytes, Text};
reason({nodedown, Node}) when is_atom(Node) -> {node_down, atom_to_binary(Node)};
reason(Reason) when Reason =:= timeout; Reason =:= full; Reason =:= closed; Reason =:= not_found;
                    Reason =:= draining; Reason =:= not_owner; Reason =:= busy;
                    Reason =:= system_limit; Reason =:= not_alive; Reason =:= bad_frame ->
    Reason;
reason(bad_reply) -> {other, <<"bad_reply">>};
reason(Reason) when is_atom(Reason) -> {posix, atom_to_binary(Reason)};
reason(Reason) -> {other, text(Reason)}.

tls_reason(closed) -> closed_in_handshake;
tls_reason({alert, Name}) -> {alert, atom_to_binary(Name)};
tls_reason({Option, Why}) when is_atom(Option) -> {unusable, atom_to_binary(Option), text(Why)};
tls_reason(Reason) ->
    Known = [unknown_ca, self_signed, hostname_mismatch, certificate_expired,
             certificate_not_yet_valid, certificate_revoked, invalid_purpose, invalid_ca,
             weak_certificate, bad_certificate_signature, bad_certificate, protocol_version,
             no_shared_cipher, signature_algorithm, weak_dh_key, legacy_renegotiation, not_tls,
             truncated, bad_record_mac, protocol_error, no_certificate],
    case lists:member(Reason, Known) of
        true -> Reason;
        false -> {other_reason, text(Reason)}
    end.

key({Group, Key}) -> <<(key(Group))/binary, ".", (key(Key))/binary>>;
key(Key) when is_atom(Key) -> atom_to_binary(Key);
key(Key) -> text(Key).

explanation(Bad) -> unicode:characters_to_binary(sockpool:format_error(Bad)).

words(Text) when is_binary(Text) -> Text;
words(Term) -> text(Term).

text(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term])).
