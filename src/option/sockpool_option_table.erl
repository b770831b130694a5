%%% @private
%%% All options of a pool, and those in its `tls', once: sockpool_opts and sockpool_tls check by these rows and make
%%% their messages of them, the daemon's tables in C are made of them (c_src/option_rows.escript), and what documents,
%%% types and Gleam's builders say is compared with them (sockpool_option_table_tests, sockpool_docs_SUITE).
%%%
%%% A new option is a row here with its type, what uses it, and its line in docs/reference.md. A new kind of value also needs its
%%% words here, and its check in sockpool_option and in C.
-module(sockpool_option_table).

-export([pool/0, tls/0, transports/1, bounds/1, allowed/2]).
-export_type([row/0, kind/0, transport/0, face/0, options/0, tls_options/0]).

-type transport() :: tcp | tls | unix | node | worker.
%% Required or refused: with these transports. A refused one may be given as `undefined'. Restart: it cannot change while
%% the pool runs.
-type rule() :: {required | refused, [transport(), ...]} | {note, string()} | restart.
-type row() :: {Key :: atom(), Default :: term(), kind(), [rule()]}.
-type kind() :: {optional | or_infinity, kind()} % or the atom `undefined', `infinity'
              | {one_of, [atom(), ...]} | {integer, integer(), integer()} | {ms, 0 | 1} | bytes
              | pool_name | start | hosts | path | worker | packet | ip_address | validate | backoff | lifetime | tls | node_name | cookie | keepalive | health
              | {callback, arity(), Returns :: string()}
              | {text, string()} | server_name | certs | password | versions | alpn.
%% Who checks.
-type face() :: vm | daemon.

-define(MAX_MS, 4294967295).
-define(MAX_COUNT, 4294967295).
-define(MAX_BYTES, 2147483647).
-define(MAX_INT, 2147483647).
-define(MAX_CONNECTIONS, 1000000).

%% @doc The daemon's are among the others, in this order.
-spec transports(face()) -> [transport()].
transports(vm) -> transports(daemon) ++ [worker];
transports(daemon) -> [tcp, tls, unix, node].

-spec pool() -> [row()].
pool() ->
    Sum = {note, "size and max_overflow together from 1 to " ++ integer_to_list(?MAX_CONNECTIONS)},
    OfNodes = {refused, [tcp, tls, unix, worker]},
    OfWorkers = {refused, [tcp, tls, unix, node]},
    OfStreams = {refused, [worker]},
    OfByteStreams = {refused, [node, worker]},
    [{name, undefined, pool_name, [restart]},
     {transport, tcp, {one_of, transports(vm)}, [restart]},
     {host, undefined, {optional, hosts}, [{required, [tcp, tls]}, {refused, [unix, node, worker]}, restart]},
     {port, undefined, {optional, {integer, 1, 65535}},
      [{required, [tcp, tls]}, {refused, [unix, worker]}, {note, "with node instead of asking epmd"}, restart]},
     {path, undefined, {optional, path}, [{required, [unix]}, {refused, [tcp, tls, node, worker]}, restart]},
     {worker, undefined, {optional, worker}, [{required, [worker]}, OfWorkers, restart]},
     {worker_shutdown, 5000, {or_infinity, {ms, 0}}, [OfWorkers, restart]},
     {abandoned, close, {one_of, [close, reuse]}, [OfWorkers]},
     {size, 10, {integer, 0, ?MAX_CONNECTIONS}, [Sum]},
     {max_overflow, 10, {integer, 0, ?MAX_CONNECTIONS}, [Sum]},
     {overflow_ttl, 10000, {or_infinity, {ms, 0}}, []},
     {min_size, undefined, {optional, {integer, 0, ?MAX_CONNECTIONS}}, [{note, "not above size, which it is by default"}]},
     {idle_timeout, infinity, {or_infinity, {ms, 1}}, []},
     {min_idle, 0, {integer, 0, ?MAX_CONNECTIONS}, []},
     {start, async, start, [restart]},
     {growth, expected, {one_of, [expected, eager]}, []},
     {max_lifetime, infinity, {or_infinity, lifetime}, []},
     {max_uses, infinity, {or_infinity, {integer, 1, ?MAX_COUNT}}, []},
     {strategy, lifo, {one_of, [lifo, fifo]}, []},
     {max_waiting, infinity, {or_infinity, {integer, 0, ?MAX_COUNT}}, []},
     {checkout_timeout, 5000, {or_infinity, {ms, 0}}, []},
     {connect_timeout, 5000, {ms, 1}, []},
     {connect_parallelism, undefined, {optional, {integer, 1, ?MAX_CONNECTIONS}}, [{note, "by default 64, and 16 with a handshake, of tls or of a node"}]},
     {send_timeout, 5000, {or_infinity, {ms, 0}}, [OfStreams]},
     {pipeline, 1, {integer, 1, 4096}, [OfByteStreams, {note, "above 1 with size and max_overflow together up to 65536"}, restart]},
     {pipeline_bytes, 1048576, bytes, [OfByteStreams]},
     {pipeline_stall, 5000, {or_infinity, {ms, 1}}, [OfByteStreams]},
     {replies, true, {one_of, [true, false]}, [OfByteStreams]},
     {packet, raw, packet, [OfStreams, {note, "with transport node it is 4"}, restart]},
     {nodelay, true, {one_of, [true, false]}, [OfStreams]},
     {keepalive, false, keepalive, [OfStreams]},
     {user_timeout, undefined, {optional, {integer, 1, ?MAX_INT}}, [{refused, [unix, worker]}, {note, "milliseconds; on Linux only"}]},
     {sndbuf, undefined, {optional, bytes}, [OfStreams]},
     {recbuf, undefined, {optional, bytes}, [OfStreams]},
     {bind, undefined, {optional, ip_address}, [{refused, [unix, worker]}]},
     {init, undefined, {optional, {callback, 1, "ok, {ok, State} or {error, Reason}"}}, [{refused, [node]}]},
     {validate, always, validate, []},
     {health, undefined, {optional, health}, [{refused, [node]}]},
     {max_hold, infinity, {or_infinity, {ms, 1}}, []},
     {leak_threshold, infinity, {or_infinity, {ms, 1000}}, []},
     {slow_checkout, 1000, {or_infinity, {ms, 1}}, []},
     {recv_limit, 67108864, bytes, [OfStreams, restart]},
     {backoff, {100, 2000}, backoff, []},
     {fail_fast, false, {one_of, [true, false]}, []},
     {tls, undefined, {optional, tls}, [{refused, [tcp, unix, worker]}, {note, "for a node that speaks distribution over TLS"}, restart]},
     {node, undefined, {optional, node_name}, [{required, [node]}, OfNodes, restart]},
     {cookie, undefined, {optional, cookie}, [OfNodes, {note, "by default what is set for that node"}, restart]},
     {max_inflight, 64, {integer, 1, ?MAX_COUNT}, [OfNodes]}].

-spec tls() -> [row()].
tls() ->
    File = {optional, {text, "a file's path as a string or binary"}},
    [{verify, peer, {one_of, [peer, none]}, []},
     {cacertfile, undefined, File, [{note, "not together with cacerts"}]},
     {cacerts, undefined, {optional, certs}, [{note, "not together with cacertfile"}]},
     {server_name, undefined, {optional, server_name}, []},
     {certfile, undefined, File, [{note, "keyfile needs it"}]},
     {keyfile, undefined, File, []},
     {password, undefined, {optional, password}, []},
     {versions, ['tlsv1.2', 'tlsv1.3'], versions, []},
     {ciphers, undefined, {optional, {text, "a cipher list of OpenSSL, for TLS 1.2, as text"}}, []},
     {ciphersuites, undefined, {optional, {text, "names of TLS 1.3 cipher suites with : between them"}}, []},
     {groups, undefined, {optional, {text, "names of groups with : between them, such as X25519:P-256"}}, []},
     {alpn, [], alpn, []},
     {session_reuse, true, {one_of, [true, false]}, []},
     {keylog, undefined, File, []},
     {ktls, false, {one_of, [true, false]}, []}].

%%% Types, for Dialyzer: every option may be `nil', too.

-type ms() :: 0..?MAX_MS.
-type text() :: string() | binary().
-type host() :: inet:ip_address() | text() | atom().
-type mfargs() :: {module(), Function :: atom(), ExtraArgs :: [term()]}.

-type options() :: #{name => atom(),
                     transport => transport() | nil,
                     host => host() | [host(), ...] | undefined | nil,
                     port => inet:port_number() | undefined | nil,
                     path => text() | undefined | nil,
                     worker => {module(), Arg :: term()} | mfargs() | fun(() -> {ok, pid()} | {error, term()})
                             | undefined | nil,
                     worker_shutdown => ms() | infinity | undefined | nil,
                     abandoned => close | reuse | undefined | nil,
                     size => non_neg_integer() | nil,
                     max_overflow => non_neg_integer() | nil,
                     overflow_ttl => ms() | infinity | nil,
                     min_size => non_neg_integer() | undefined | nil,
                     idle_timeout => ms() | infinity | nil,
                     min_idle => non_neg_integer() | nil,
                     start => async | {await, Count :: pos_integer() | size, ms()} | nil,
                     growth => expected | eager | nil,
                     max_lifetime => ms() | {ms(), ms()} | infinity | nil,
                     max_uses => pos_integer() | infinity | nil,
                     strategy => lifo | fifo | nil,
                     max_waiting => non_neg_integer() | infinity | nil,
                     checkout_timeout => ms() | infinity | nil,
                     connect_timeout => ms() | nil,
                     connect_parallelism => pos_integer() | undefined | nil,
                     send_timeout => ms() | infinity | undefined | nil,
                     pipeline => 1..4096 | undefined | nil,
                     pipeline_bytes => pos_integer() | undefined | nil,
                     pipeline_stall => ms() | infinity | undefined | nil,
                     replies => boolean() | undefined | nil,
                     packet => raw | 0 | 1 | 2 | 4 | line | resp | {fixed, pos_integer()} | {delimiter, binary()}
                             | {length, #{offset => 0..255, bytes => 1..8, endian => big | little, adjust => integer(),
                                          header => keep | strip} | [{atom(), term()}]}
                             | fun((binary()) -> sockpool_framing:cut()) | {module(), atom(), [term()]} | undefined | nil,
                     nodelay => boolean() | undefined | nil,
                     keepalive => boolean() | #{idle => 1..32767, interval => 1..32767, count => 1..127} | [{atom(), term()}] | undefined | nil,
                     user_timeout => pos_integer() | undefined | nil,
                     sndbuf => pos_integer() | undefined | nil,
                     recbuf => pos_integer() | undefined | nil,
                     bind => inet:ip_address() | undefined | nil,
                     init => fun((sockpool:conn()) -> ok | {ok, State :: term()} | {error, term()})
                           | fun((Worker :: pid()) -> ok | {ok, State :: term()} | {error, term()}) | mfargs() | undefined | nil,
                     validate => always | {'after', ms()} | never | fun((Worker :: pid()) -> boolean()) | mfargs() | nil,
                     health => fun((sockpool:conn()) -> ok | {error, term()}) | fun((Worker :: pid()) -> ok | {error, term()}) | mfargs()
                             | #{interval => ms(), timeout => ms(), send => binary(), expect => binary() | {prefix, binary()},
                                 check => fun() | mfargs()}
                             | [{atom(), term()}] | undefined | nil,
                     max_hold => ms() | infinity | nil,
                     leak_threshold => ms() | infinity | nil,
                     slow_checkout => ms() | infinity | nil,
                     recv_limit => pos_integer() | undefined | nil,
                     backoff => {ms(), ms()} | nil,
                     fail_fast => boolean() | nil,
                     tls => tls_options() | undefined | nil,
                     node => node() | undefined | nil,
                     cookie => atom() | binary() | fun(() -> atom() | binary()) | mfargs() | undefined | nil,
                     max_inflight => pos_integer() | undefined | nil}
                 | [{atom(), term()}].

-type tls_options() :: #{verify => peer | none | nil,
                         cacertfile => text() | undefined | nil,
                         cacerts => [binary() | tuple(), ...] | undefined | nil,
                         server_name => text() | undefined | nil,
                         certfile => text() | undefined | nil,
                         keyfile => text() | undefined | nil,
                         password => fun(() -> iodata()) | mfargs() | undefined | nil,
                         versions => ['tlsv1.2' | 'tlsv1.3', ...] | nil,
                         ciphers => text() | undefined | nil,
                         ciphersuites => text() | undefined | nil,
                         groups => text() | undefined | nil,
                         alpn => [text()] | nil,
                         session_reuse => boolean() | nil,
                         keylog => text() | undefined | nil,
                         ktls => boolean() | nil}
                     | [{atom(), term()}].

%%% What is allowed.

%% @doc Of a number, or of the length in bytes of a text.
-spec bounds(kind()) -> {non_neg_integer(), pos_integer()}.
bounds({integer, Min, Max}) -> {Min, Max};
bounds({ms, Min}) -> {Min, ?MAX_MS};
bounds(validate) -> bounds({ms, 0});
bounds(backoff) -> bounds({ms, 1});
bounds(lifetime) -> bounds({ms, 1});
bounds(start) -> {1, ?MAX_CONNECTIONS};
bounds(bytes) -> {1, ?MAX_BYTES};
bounds(path) -> {1, 107};
bounds(cookie) -> {1, 255};
bounds(server_name) -> {1, 255};
bounds(alpn) -> {1, 255}.

%% @doc In words.
-spec allowed(face(), row()) -> string().
allowed(daemon, {_Key, _Default, {optional, Kind}, _Rules}) when Kind =:= password; element(1, Kind) =:= callback ->
    "left out, because a node in C cannot call a fun";
allowed(Face, {_Key, _Default, Kind, Rules}) ->
    case {rule(Face, required, Rules), rule(Face, refused, Rules), transports(Face)} of
        {_, All, All} ->
            "left out, because a node in C has no workers: an Erlang node serves such a pool";
        {Required, Refused, All} ->
            Notes = with_transports(Required, Refused, All) ++ [Note || {note, Note} <- Rules],
            lists:append([words(Face, Kind)
                          | [" (" ++ lists:append(lists:join("; ", Notes)) ++ ")" || Notes =/= []]])
    end.

rule(Face, Rule, Rules) -> [Transport || Transport <- proplists:get_value(Rule, Rules, []),
                                         lists:member(Transport, transports(Face))].

with_transports([], [], _All) ->
    [];
with_transports([], Refused, All) ->
    case All -- Refused of
        Allowed when length(Allowed) =< length(Refused) -> ["only with transport " ++ joined(" or ", Allowed)];
        _ -> ["not with transport " ++ joined(" or ", Refused)]
    end;
with_transports(Required, Refused, All) ->
    Others = case All -- Required of Refused -> "others"; _ -> joined(" or ", Refused) end,
    ["required with transport " ++ joined(" and ", Required) ++ ", not allowed with " ++ Others].

joined(Word, Atoms) -> lists:append(lists:join(Word, [atom_to_list(Atom) || Atom <- Atoms])).

%% That a default is `undefined' says only that there is none.
words(Face, {optional, Kind}) -> words(Face, Kind);
words(Face, {or_infinity, Kind}) -> words(Face, Kind) ++ ", or infinity";
words(daemon, start) -> "async, because a node in C has nobody wait for a start: see sockpool:await_ready/2";
words(daemon, {one_of, Atoms}) -> words({one_of, Atoms -- (transports(vm) -- transports(daemon))});
words(vm, validate) ->
    words(validate) ++ "; with transport worker always, or a fun of one argument, the worker's pid, that returns a boolean, "
    "or {Module, Function, ExtraArgs}, called with the pid before those";
words(vm, health) ->
    "a fun of one argument, the connection or, with transport worker, the worker's pid, that returns ok or {error, Reason}, or "
    "{Module, Function, ExtraArgs}, called with that before those; or " ++ words(health) ++ ", instead of which check may be that function, as "
    "it has to with transport worker";
words(daemon, health) -> words(health) ++ "; no function, because a node in C cannot call a fun";
words(vm, cookie) -> words(daemon, cookie) ++ ", or a fun without arguments, or {Module, Function, Args}, that returns one";
words(_Face, Kind) -> words(Kind).

words({one_of, Atoms}) ->
    "one of " ++ joined(", ", Atoms);
words({integer, _, _} = Kind) ->
    {Min, Max} = bounds(Kind),
    format("an integer from ~b to ~b", [Min, Max]);
words({ms, Min}) ->
    words({integer, Min, ?MAX_MS}) ++ " (milliseconds)";
words(bytes) ->
    words({integer, 1, ?MAX_BYTES}) ++ " (bytes)";
words(pool_name) ->
    "an atom other than undefined, and the name that the pool is started under";
words(start) ->
    {Min, Max} = bounds(start),
    format("async, or {await, Count, Ms} with Count size or an integer from ~b to ~b, and Ms ~ts", [Min, Max, words({ms, 0})]);
words(hosts) ->
    "an IP address, a host name (string, binary or atom), or a non-empty list of those; without a port, "
    "which is an option of its own, and no URL, brackets or zone";
words(path) ->
    {Min, Max} = bounds(path),
    format("a socket's path as a string or binary of ~b to ~b bytes, none of them 0", [Min, Max]);
words(worker) ->
    "{Module, Arg} for Module:start_link(Arg), {Module, Function, Args}, or a fun without arguments; it starts a process and "
    "returns {ok, Pid} or {error, Reason}";
words(packet) ->
    "one of raw, 0, 1, 2, 4, line, resp; or {fixed, Bytes}; {delimiter, Binary} of 1 to 32 bytes; {length, Options} with "
    "offset (0 to 255, default 0), bytes (1 to 8, default 4), endian (big or little), adjust (default 0), header (keep, or "
    "strip, without an offset); or a fun of what is there, or {Module, Function, ExtraArgs}, that returns {done, Bytes}, "
    "{more, AtLeast | unknown} or {error, Reason}";
words(health) ->
    "a map, or a list of {Key, Value}, of interval (an integer from 100 to 4294967295, milliseconds, default 30000), timeout (from 1, default "
    "1000), send and expect, which are binaries of 1 to 512 bytes; expect may be {prefix, Binary}";
words(keepalive) ->
    "true, false, or a map, or a list of {Key, Value}, of idle and interval (each an integer from 1 to 32767, seconds) and count (an "
    "integer from 1 to 127)";
words(ip_address) ->
    "an IP address as a tuple, such as {127,0,0,1}";
words({callback, 1, Returns}) ->
    "a fun of one argument, the connection or, with transport worker, the worker's pid, that returns " ++ Returns ++ ", or "
    "{Module, Function, ExtraArgs}, called with that before those; for a pool of another node exported there, and no other fun than "
    "fun Module:Function/1";
words(password) ->
    "a fun without arguments, or {Module, Function, Args}, that returns iodata; for a pool of another node "
    "exported there, and no other fun than fun Module:Function/0";
words(validate) ->
    "always, never, or {'after', Ms} with Ms " ++ words({ms, 0});
words(backoff) ->
    "{MinMs, MaxMs}, each " ++ words({ms, 1}) ++ ", with MinMs not above MaxMs";
words(lifetime) ->
    words({ms, 1}) ++ ", or {MinMs, MaxMs} with MinMs not above MaxMs";
words(tls) ->
    "a map, or a list of {Key, Value}, of TLS options";
words(node_name) ->
    "the name of a node, an atom of the form name@host of visible ASCII characters";
words(cookie) ->
    {Min, Max} = bounds(cookie),
    format("an atom or a binary of ~b to ~b bytes, none of them 0", [Min, Max]);
words({text, Words}) ->
    Words;
words(server_name) ->
    {_, Max} = bounds(server_name),
    format("a host name or an IP address as a string or binary of at most ~b visible ASCII characters", [Max]);
words(certs) ->
    "a list of DER binaries, or what public_key:cacerts_get/0 returns";
words(versions) ->
    "a list of 'tlsv1.2', 'tlsv1.3' or both";
words(alpn) ->
    {Min, Max} = bounds(alpn),
    format("a list of protocol names, strings or binaries of ~b to ~b bytes", [Min, Max]).

format(Format, Args) -> lists:flatten(io_lib:format(Format, Args)).
