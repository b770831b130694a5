%%% examples/jsonrpc against Debian's snapserver, whose control port speaks it, and tells all other clients what one has changed;
%%% and against a server of our own that does what MCP's do.
-module(sockpool_jsonrpc_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([calls/1, batches/1, notified/1, first_call/1, no_json/1, own_replies/1, own_replies_between_notifications/1]).

-import(sockpool_test_util, [settled/1, stat/2]).
-import(sockpool_examples, [under_load/3]).

-define(HOST, "127.0.0.1").
-define(SIZE, 64).
-define(DEVICES, 8).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [calls, batches, notified, first_call, no_json, own_replies, own_replies_between_notifications].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    {Encode, _} = jsonrpc:default_codec(),
    {module, Codec} = erlang:fun_info(Encode, module),
    case code:which(Codec) of
        non_existing -> {skip, "not installed: erlang-jiffy"};
        _ -> sockpool_examples:missing([{"snapserver", "snapserver"}], Config)
    end.

end_per_suite(_Config) -> application:stop(sockpool).

%% It knows some devices that are not there just now.
init_per_testcase(Case, Config) ->
    Dir = sockpool_examples:dir(),
    State = filename:join(Dir, "server.json"),
    {Encode, _} = jsonrpc:default_codec(),
    Devices = [device(device(N)) || N <- lists:seq(1, ?DEVICES)],
    ok = file:write_file(State, Encode(#{'ConfigVersion' => 2,
                                         'Groups' => [#{clients => Devices, id => <<"group">>, muted => false, name => <<>>,
                                                        stream_id => <<"default">>}]})),
    [Control, Stream] = [sockpool_test_port:free() || _ <- [control, stream]],
    Settings = filename:join(Dir, "settings"),
    ok = file:write_file(Settings, ["[server]\ndatadir = ", Dir, "\n[http]\nenabled = false\n"
                                    "[tcp]\nbind_to_address = " ?HOST "\nport = ", integer_to_list(Control), "\n"
                                    "[stream]\nbind_to_address = " ?HOST "\nport = ", integer_to_list(Stream), "\n"
                                    "source = pipe://", Dir, "/audio?name=default\n[logging]\nfilter = *:error\n"]),
    Program = sockpool_test_program:start("snapserver", ["--config", Settings], #{cd => Dir, signal => "KILL"}),
    #{} = sockpool_test_program:listening(#{port => Control}),
    [{pool, list_to_atom(lists:concat(["jsonrpc_", Case]))}, {port, Control}, {program, Program}, {dir, Dir} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok = sockpool_test_program:stop(?config(program, Config)),
    ok = file:del_dir_r(?config(dir, Config)).

device(N) when is_integer(N) ->
    <<"device ", (integer_to_binary(N))/binary>>;
device(Id) ->
    #{id => Id, connected => false, lastSeen => #{sec => 0, usec => 0},
      host => maps:from_list([{Key, <<>>} || Key <- [arch, ip, mac, name, os]]),
      config => #{instance => 1, latency => 0, name => <<>>, volume => #{muted => false, percent => 100}},
      snapclient => #{name => <<"Snapclient">>, protocolVersion => 2, version => <<"0">>}}.

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, jsonrpc:options(maps:merge(#{host => ?HOST, port => ?config(port, Config)}, Opts))),
    Pool.

calls(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertMatch({ok, #{<<"major">> := Major}} when is_integer(Major), jsonrpc:call(Pool, <<"Server.GetRPCVersion">>, #{})),
    Name = <<"\"quoted\"\r\n\\ and ", 16#e9/utf8, 0>>,
    ?assertEqual({ok, #{<<"name">> => Name}}, renamed(Pool, device(3), Name)),
    ?assertMatch({ok, #{<<"client">> := #{<<"id">> := <<"device 3">>, <<"config">> := #{<<"name">> := Name}}}}, status(Pool, device(3))),
    ?assertMatch({error, #{<<"code">> := -32601}}, jsonrpc:call(Pool, <<"No.SuchMethod">>, #{})),
    ?assertMatch({error, #{<<"data">> := <<"Client not found">>}}, status(Pool, <<"none">>)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

renamed(Pool, Device, Name) -> jsonrpc:call(Pool, <<"Client.SetName">>, #{id => Device, name => Name}).

status(Pool, Device) -> jsonrpc:call(Pool, <<"Client.GetStatus">>, #{id => Device}).

batches(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Calls = [{<<"Client.SetName">>, #{id => device(N), name => integer_to_binary(N)}} || N <- lists:seq(1, ?DEVICES)],
    ?assertEqual({ok, [{ok, #{<<"name">> => integer_to_binary(N)}} || N <- lists:seq(1, ?DEVICES)]}, jsonrpc:batch(Pool, Calls, #{})),
    ?assertMatch({ok, [{error, #{<<"code">> := -32601}}, {ok, #{<<"name">> := <<"1">>}}]},
                 jsonrpc:batch(Pool, [{<<"No.SuchMethod">>, #{}}, hd(Calls)], #{})).

%% What others have changed comes before the answer.
notified(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0}),
    Test = self(),
    Told = fun(Method, Params) -> Test ! {Method, Params} end,
    ok = sockpool:transaction(Pool, fun(Conn) ->
                                            %% The server knows it.
                                            {ok, _} = jsonrpc:ask(Conn, <<"Server.GetRPCVersion">>, #{}, #{}),
                                            [{ok, _} = renamed(Pool, device(N), <<"new">>) || N <- [1, 2]],
                                            {ok, #{<<"major">> := _}} = jsonrpc:ask(Conn, <<"Server.GetRPCVersion">>, #{}, #{notified => Told}),
                                            ok
                                    end),
    [receive
         {Method, Params} when is_binary(Method) ->
             ?assertEqual({<<"Client.OnNameChanged">>, #{<<"id">> => device(N), <<"name">> => <<"new">>}}, {Method, Params})
     after 0 -> error(not_told)
     end || N <- [1, 2]].

%% As MCP begins, and as its servers tell how far they are.
first_call(Config) ->
    Pool = ?config(pool, Config),
    {Encode, Decode} = jsonrpc:default_codec(),
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {packet, line}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Test = self(),
    Server = spawn_link(fun() ->
                                {ok, Socket} = gen_tcp:accept(Listener),
                                Next = fun() -> {ok, Line} = gen_tcp:recv(Socket, 0), Decode(Line) end,
                                Say = fun(Message) -> ok = gen_tcp:send(Socket, [Encode(Message#{jsonrpc => <<"2.0">>}), $\n]) end,
                                #{<<"method">> := <<"initialize">>, <<"id">> := First} = Next(),
                                Say(#{id => First, result => #{}}),
                                #{<<"method">> := <<"notifications/initialized">>} = Next(),
                                #{<<"method">> := <<"tools/call">>, <<"id">> := Second} = Next(),
                                [Say(#{method => <<"notifications/progress">>, params => #{progress => N}}) || N <- [1, 2]],
                                Say(#{id => First, result => <<"of another one">>}),
                                Say(#{id => Second, result => <<"done">>}),
                                #{<<"method">> := <<"notifications/cancelled">>} = Cancelled = Next(),
                                ?assertNot(is_map_key(<<"id">>, Cancelled)),
                                Test ! cancelled,
                                {error, closed} = gen_tcp:recv(Socket, 0)
                        end),
    ok = sockpool:start_pool(Pool, jsonrpc:options(#{host => ?HOST, port => Port, size => 1, max_overflow => 0},
                                                   {<<"initialize">>, #{}, <<"notifications/initialized">>})),
    ?assertEqual({ok, <<"done">>}, jsonrpc:call(Pool, <<"tools/call">>, #{},
                                                #{notified => fun(Method, #{<<"progress">> := N}) -> Test ! {Method, N} end})),
    [receive {<<"notifications/progress">>, Progress} -> ?assertEqual(N, Progress) end || N <- [1, 2]],
    ok = jsonrpc:notify(Pool, <<"notifications/cancelled">>, #{}),
    receive cancelled -> ok end,
    Monitor = monitor(process, Server),
    ok = sockpool:stop_pool(Pool),
    receive {'DOWN', Monitor, process, Server, Reason} -> ?assert(lists:member(Reason, [normal, noproc])) end.

%% Whoever listens there, the first to know is the pool.
no_json(Config) ->
    Pool = ?config(pool, Config),
    Echo = sockpool_test_server:start(echo),
    ok = sockpool:start_pool(Pool, jsonrpc:options(#{host => ?HOST, port => sockpool_test_server:port(Echo), connect_timeout => 500,
                                                     backoff => {1, 10}},
                                                   {<<"initialize">>, #{}, none})),
    ?assertEqual(timeout, sockpool_test_util:unavailable(Pool)),
    ok = sockpool_test_server:stop(Echo).

%%% A thousand processes.

%% The id of each is its own; jsonrpc:ask/4 looks for it.
own_replies(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 60000}),
    _ = under_load(Pool, ?SIZE, fun(Key, N) ->
                                        Device = device(1 + erlang:phash2({Key, N}, ?DEVICES)),
                                        {ok, #{<<"client">> := #{<<"id">> := Device}}} = status(Pool, Device),
                                        ok
                                end),
    ?assert(stat(Pool, closed) =< stat(Pool, abandoned)).

%% Each tells all others. A connection that nobody has when it is told is closed: see docs/protocols.md.
own_replies_between_notifications(Config) ->
    Pool = started(Config, #{size => 8, max_overflow => 0, checkout_timeout => 60000}),
    _ = under_load(Pool, 8, fun(Key, N) ->
                                    Own = <<Key/binary, $:, (integer_to_binary(N))/binary>>,
                                    {ok, #{<<"name">> := Own}} = renamed(Pool, device(1 + erlang:phash2(Key, ?DEVICES)), Own),
                                    ok
                            end),
    ct:pal("~b connections were made", [stat(Pool, created)]).
