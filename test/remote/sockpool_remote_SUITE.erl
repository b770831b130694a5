%%% Pools that another Erlang node serves: the API over two and three real nodes, leases that go from
%%% node to node, and whatever one can send to the server. How clients and servers end is in
%%% sockpool_remote_ends_SUITE.
-module(sockpool_remote_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([greet/1]).
-export([refusals_cost_no_connection/1, names_after_a_reset/1]).
-export([every_function/1, same_results_as_here/1, own_node_is_the_local_path/1, default_times/1,
         large_data/1, pools_by_call/1, funs_in_options/1, no_funs_in_options/1]).
-export([waiters_of_two_nodes_are_served_in_order/1, not_owner/1, give_away_to_another_node/1,
         give_away_to_the_dead/1, call_behind_a_checkin/1]).
-export([starttls/1, password/0]).
-export([bad_requests/1, hostile_messages/1, node_down/1, node_without_sockpool/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1,
                             assert_no_messages/0]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2, result/1]).
-import(sockpool_remote_kit, [started/2, target/1, wait_and_use/2, dead/0, client_nodes/1,
                              server_identity/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, erlang}, {group, c}].

groups() ->
    [{erlang, cases() ++ [own_node_is_the_local_path, funs_in_options, node_down, node_without_sockpool]},
     {c, cases() ++ [no_funs_in_options]}].

%% For both kinds of serving nodes.
cases() ->
    [every_function, refusals_cost_no_connection, names_after_a_reset, same_results_as_here,
     default_times, large_data, pools_by_call, starttls,
     waiters_of_two_nodes_are_served_in_order, not_owner, give_away_to_another_node,
     give_away_to_the_dead, call_behind_a_checkin, bad_requests, hostile_messages].

init_per_suite(Config) -> sockpool_remote_kit:init_suite(Config).
end_per_suite(Config) -> sockpool_remote_kit:end_suite(Config).
init_per_group(Kind, Config) -> sockpool_remote_kit:init_group(Kind, Config).
end_per_group(Kind, Config) -> sockpool_remote_kit:end_group(Kind, Config).
init_per_testcase(Case, Config) -> sockpool_remote_kit:init_case(Case, Config).
end_per_testcase(_Case, Config) -> sockpool_remote_kit:end_case(Config).

%%% The API.

every_function(Config) ->
    Pool = {Name, Node} = started(Config, #{packet => line}),
    ?assertEqual({ok, [Name]}, sockpool:which_pools(Node)),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, ["one", $\n]),
    ok = sockpool:send(Conn, <<"two\n">>, 1000),
    ?assertEqual({ok, <<"one\n">>}, sockpool:recv(Conn, 0)),
    ?assertEqual({ok, <<"two\n">>}, sockpool:recv(Conn, packet, 1000)),
    Port = sockpool_test_server:port(?config(server, Config)),
    ?assertEqual({ok, {{127, 0, 0, 1}, Port}}, sockpool:peername(Conn)),
    {ok, {{127, 0, 0, 1}, OwnPort}} = sockpool:sockname(Conn),
    ?assertNotEqual(Port, OwnPort),
    {ok, Info} = sockpool:info(Conn),
    ?assertMatch(#{pool := Name, packet := line, peername := {{127, 0, 0, 1}, Port}}, Info),
    ?assertEqual(of_kind(Config, [{ok, undefined}, ok, {ok, {a, state}}, {error, emsgsize}],
                         [{error, {bad_request, Call}} || Call <- [state, set_state, state, set_state]]),
                 [sockpool:state(Conn), sockpool:set_state(Conn, {a, state}), sockpool:state(Conn),
                  sockpool:set_state(Conn, binary:copy(<<0>>, 70000))]),
    ok = sockpool:setopts(Conn, [{packet, raw}]),
    ok = sockpool:send(Conn, "ab"),
    ?assertEqual({ok, <<"a">>}, sockpool:recv(Conn, 1)),
    ?assertEqual({ok, <<"b">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:checkin(Conn),
    {ok, Sending} = sockpool:checkout(Pool, 0),
    ok = sockpool:send(Sending, "unheard\n"),
    %% Which says how the connection is kept, unless the answer is there already.
    ?assertEqual({error, {bad_argument, how, dirty}}, sockpool:checkin(Sending, dirty)),
    ?assertEqual({ok, <<"unheard\n">>}, sockpool:recv(Sending, 8)),
    ok = sockpool:checkin(Sending, clean),
    ?assertEqual({error, closed}, sockpool:checkin(Sending, clean)),
    {ok, Next} = sockpool:checkout(Pool, 0),
    ok = sockpool:discard(Next),
    ?assertEqual({ok, <<"x\n">>}, sockpool:request(Pool, "x\n", packet, 5000)),
    ?assertEqual(<<"y\n">>, sockpool:transaction(Pool, fun echo/1)),
    ?assertEqual(<<"y\n">>, sockpool:transaction(Pool, fun echo/1, 1000)),
    ?assertEqual({ok, <<"y\n">>}, sockpool:execute(Pool, fun echo/1)),
    ?assertEqual({ok, <<"y\n">>}, sockpool:execute(Pool, fun echo/1, 1000)),
    ?assertError(reason_of_the_fun, sockpool:transaction(Pool, fun(_) -> error(reason_of_the_fun) end)),
    %% Two were discarded: that of discard/1 and that of the fun which raised.
    #{checkouts := 9, checkins := 9, closed := 2, abandoned := 0} = Stats = settled(Pool),
    ?assertEqual({ok, [Stats]}, sockpool:node_stats(Node)),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)),
    assert_no_messages().

%% In a lease, with files of the serving node, which here is this machine's.
starttls(Config0) ->
    Config = sockpool_tls_kit:with_certificates(Config0),
    {ok, _} = application:ensure_all_started(ssl),
    Server = sockpool_test_server:start({script, fun(Socket) ->
        {ok, <<"s">>} = gen_tcp:recv(Socket, 1),
        ok = gen_tcp:send(Socket, "S"),
        {ok, Secure} = ssl:handshake(Socket, sockpool_tls_kit:identity(Config, "server"), 30000),
        (fun Echo() -> case ssl:recv(Secure, 0) of {ok, Data} -> ssl:send(Secure, Data), Echo(); {error, _} -> ok end end)()
    end}),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), #{size => 1, max_overflow => 0})),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, "s"),
    {ok, <<"S">>} = sockpool:recv(Conn, 1),
    Opts = #{cacertfile => sockpool_tls_kit:pem(Config, "ca"), password => fun ?MODULE:password/0},
    case ?config(kind, Config) of
        c ->
            ?assertEqual({error, {bad_request, starttls}}, sockpool:starttls(Conn, Opts)),
            ?assertNotEqual(nomatch, string:find(sockpool:format_error({bad_request, starttls}), "C node"));
        erlang ->
            ?assertMatch({error, {bad_option, {tls, verify}, maybe_later}}, sockpool:starttls(Conn, Opts#{verify => maybe_later})),
            Own = fun() -> "not there" end,
            ?assertEqual({error, {bad_option, {tls, password}, Own}}, sockpool:starttls(Conn, Opts#{password := Own})),
            ?assertEqual({error, {bad_argument, timeout, -1}}, sockpool:starttls(Conn, Opts, -1)),
            ?assertEqual(ok, sockpool:starttls(Conn, Opts)),
            ?assertMatch({ok, #{transport := tls, protocol := 'tlsv1.3'}}, sockpool:info(Conn)),
            ok = sockpool:send(Conn, "secret"),
            ?assertEqual({ok, <<"secret">>}, sockpool:recv(Conn, 6)),
            ?assertEqual({error, {bad_option, transport, tls}}, sockpool:starttls(Conn, Opts))
    end,
    ok = sockpool:checkin(Conn),
    ?assertEqual(of_kind(Config, {error, closed}, {error, {bad_request, starttls}}), sockpool:starttls(Conn, Opts)).

password() -> "not asked for".

%% What the C node does not have.
of_kind(Config, Erlang, C) ->
    case ?config(kind, Config) of erlang -> Erlang; c -> C end.

echo(Conn) ->
    ok = sockpool:send(Conn, "y\n"),
    {ok, Line} = sockpool:recv(Conn, 0),
    Line.

%% What cannot be done is said before a connection is the worse for it.
refusals_cost_no_connection(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, packet => 1, recv_limit => 100}),
    Long = binary:copy(<<"x">>, 300),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, Long, packet, 5000)),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, Long, packet, 10)),
    ?assertEqual({error, emsgsize}, sockpool:send(Conn, Long)),
    ok = sockpool:setopts(Conn, [{packet, raw}]),
    ?assertEqual({error, emsgsize}, sockpool:recv(Conn, 101)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)),
    Raw = started([{pool, {raw, ?config(node, Config)}} | Config], #{size => 1, max_overflow => 0, recv_limit => 100}),
    ?assertEqual({error, emsgsize}, sockpool:request(Raw, "x", 101, 5000)),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Raw, "x", 1, 5000)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Raw)).

names_after_a_reset(Config) ->
    Reset = sockpool_test_server:start({script, fun(Socket) ->
                                                        {ok, _} = gen_tcp:recv(Socket, 0),
                                                        inet:setopts(Socket, [{linger, {true, 0}}])
                                                end}),
    Pool = started(Config, sockpool_test_server:target(Reset)),
    {ok, Conn} = sockpool:checkout(Pool),
    {ok, #{peername := Peer, sockname := Own}} = sockpool:info(Conn),
    ok = sockpool:send(Conn, "x"),
    ?assertEqual({error, econnreset}, sockpool:recv(Conn, 1)),
    ?assertMatch({ok, #{peername := Peer, sockname := Own}}, sockpool:info(Conn)),
    ?assertEqual([{ok, Peer}, {ok, Own}], [sockpool:peername(Conn), sockpool:sockname(Conn)]),
    ok = sockpool:checkin(Conn).

same_results_as_here(Config) ->
    Opts = #{size => 1, max_overflow => 0, packet => 1, recv_limit => 100},
    Remote = {Name, Node} = started(Config, Opts),
    ok = sockpool:start_pool(Name, maps:merge(target(Config), Opts)),
    _ = settled(Name),
    Errors = [{error, timeout}, {error, full}, {error, closed}, {error, not_found},
              {error, {bad_argument, timeout, -1}}, {error, {bad_argument, timeout, soon}},
              {error, {bad_argument, length, -1}}, {error, {bad_argument, data, [300]}},
              {error, {bad_argument, pid, nobody}}, {error, {bad_argument, opts, none}},
              {error, {bad_option, colour, red}}, {error, emsgsize}],
    Here = results(Name, no_such_pool),
    ?assertEqual(Here, results(Remote, {no_such_pool, Node})),
    ?assertEqual([], Errors -- Here).

%% Every error that a caller can bring about, in one list.
results(Pool, NoPool) ->
    {ok, Conn} = sockpool:checkout(Pool),
    Data = [300],
    OnConn = [sockpool:checkout(Pool, 0), sockpool:checkout(Pool, 20),
              sockpool:request(Pool, "x", packet, 0), sockpool:request(Pool, "x", packet, 20),
              sockpool:checkout(Pool, -1), sockpool:checkout(NoPool), sockpool:checkout(NoPool, 0),
              sockpool:request(NoPool, "x", 0, 10), sockpool:stats(NoPool), sockpool:histograms(NoPool), sockpool:stop_pool(NoPool),
              sockpool:execute(NoPool, fun(_) -> ok end),
              catch_error(fun() -> sockpool:transaction(NoPool, fun(_) -> ok end) end),
              sockpool:request(Pool, Data, packet, 10), sockpool:request(Pool, "x", -1, 10),
              sockpool:request(Pool, "x", 0, soon),
              sockpool:send(Conn, Data), sockpool:send(Conn, "x", soon),
              sockpool:recv(Conn, -1), sockpool:recv(Conn, 0, -1), sockpool:recv(Conn, 7, 0),
              sockpool:give_away(Conn, nobody), sockpool:give_away(Conn, dead()),
              sockpool:setopts(Conn, none), sockpool:setopts(Conn, [{colour, red}]),
              sockpool:setopts(Conn, [{nodelay, true} | rest]), sockpool:setopts(Conn, []),
              sockpool:recv(Conn, 0, 20),
              sockpool:send(Conn, binary:copy(<<"x">>, 256)),
              sockpool:send(Conn, binary:copy(<<"x">>, 200)), sockpool:recv(Conn, 0, 1000),
              sockpool:checkin(Conn)],
    OnConn ++ [sockpool:checkin(Conn), sockpool:discard(Conn), sockpool:send(Conn, "x"),
               sockpool:recv(Conn, 0), sockpool:info(Conn), sockpool:peername(Conn),
               sockpool:sockname(Conn), sockpool:setopts(Conn, [{nodelay, true}]),
               sockpool:give_away(Conn, self())].

catch_error(Fun) ->
    try Fun() catch error:Reason -> {raised, Reason} end.

%% The server of this node does not see anything of it.
own_node_is_the_local_path(Config) ->
    {Name, _} = ?config(pool, Config),
    Pool = {Name, node()},
    ok = sys:suspend(sockpool),
    try
        ok = sockpool:start_pool(Pool, target(Config)),
        ?assertMatch({error, {already_started, _}}, sockpool:start_pool(Pool, target(Config))),
        ?assertMatch({error, {already_started, _}}, sockpool:start_pool(Name, target(Config))),
        {ok, Conn} = sockpool:checkout(Pool),
        ok = sockpool:checkin(Conn),
        ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
        ?assertEqual({ok, 1}, sockpool:execute(Pool, fun(_) -> 1 end)),
        ?assertEqual({ok, [Name]}, sockpool:which_pools(node())),
        ?assertMatch({ok, #{checkouts := 3}}, sockpool:stats(Pool)),
        ?assertMatch({ok, [#{name := Name}]}, sockpool:node_stats(node())),
        ok = sockpool:stop_pool(Pool)
    after
        ok = sys:resume(sockpool)
    end.

%% Those of the pool, which the client does not know.
default_times(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => 0}),
    {ok, Conn} = sockpool:checkout(Pool, 5000),
    ?assertEqual({error, full}, sockpool:checkout(Pool)),
    ?assertEqual({error, full}, sockpool:execute(Pool, fun(_) -> ok end)),
    ok = sockpool:checkin(Conn).

large_data(Config) ->
    Pool = started(Config, #{}),
    Data = rand:bytes(8 * 1024 * 1024),
    ?assert({ok, Data} =:= sockpool:request(Pool, Data, byte_size(Data), 60000)),
    %% Through a lease the echo must be read while the rest is sent: half of it at a time fits.
    Part = binary:part(Data, 0, 100000),
    Received = sockpool:transaction(Pool, fun(Conn) ->
                                                  ok = sockpool:send(Conn, [Part]),
                                                  sockpool:recv(Conn, byte_size(Part))
                                          end),
    ?assert({ok, Part} =:= Received),
    #{closed := 0} = settled(Pool).

pools_by_call(Config) ->
    {Name, Node} = Pool = ?config(pool, Config),
    Target = target(Config),
    ?assertEqual({error, {bad_option, size, lots}},
                 sockpool:start_pool(Pool, Target#{size => lots})),
    ?assertEqual({error, {bad_option, opts, not_a_map}}, sockpool:start_pool(Pool, nothing)),
    ?assertEqual({ok, []}, sockpool:which_pools(Node)),
    %% As Elixir gives them.
    ok = sockpool:start_pool(Pool, [{size, nil}, {path, nil}, {tls, nil} | maps:to_list(Target)]),
    {error, {already_started, Pid}} = sockpool:start_pool(Pool, Target),
    ?assertEqual(Node, node(Pid)),
    ?assertEqual({ok, [Name]}, sockpool:which_pools(Node)),
    Job = start(fun() ->
                        {ok, _} = sockpool:checkout(Pool),
                        receive done -> ok end
                end),
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    ok = sockpool:stop_pool(Pool),
    element(1, Job) ! done,
    ok = await(Job),
    ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)).

funs_in_options(Config) ->
    Pool = ?config(pool, Config),
    Opts = (target(Config))#{packet => line},
    Bad = [fun(_) -> ok end, fun unexported/1, fun ?MODULE:unexported/1, fun no_such_module:init/1,
           {?MODULE, unexported, []}, {?MODULE, greet, [x]}, {no_such_module, init, []}],
    [?assertEqual({error, {bad_option, init, shown(Fun)}}, sealed(sockpool:start_pool(Pool, Opts#{init => Fun})))
     || Fun <- Bad],
    Tls = Opts#{transport => tls, tls => #{certfile => "c.pem", password => fun() -> "x" end}},
    ?assertMatch({error, {bad_option, {tls, password}, _}}, sockpool:start_pool(Pool, Tls)),
    %% Runs on the serving node, with a connection of that node.
    true = register(greeted, self()),
    ok = sockpool:start_pool(Pool, Opts#{init => fun ?MODULE:greet/1, size => 1}),
    _ = settled(Pool),
    Node = ?config(node, Config),
    receive {greeted_on, Where} -> ?assertEqual(Node, Where) end,
    ok = sockpool:stop_pool(Pool),
    ok = sockpool:start_pool(Pool, Opts#{init => {?MODULE, greet, []}, size => 1}),
    receive {greeted_on, Again} -> ?assertEqual(Node, Again) end,
    Text = lists:flatten(sockpool:format_error({bad_option, init, hd(Bad)})),
    ?assertNotEqual(nomatch, string:find(Text, "another node")).

unexported(_Conn) -> ok.

%% Arguments are not told: there may be a password among them.
shown({Module, Function, _Extra}) -> {Module, Function, sealed};
shown(Fun) -> Fun.

sealed({error, {bad_option, Key, {Module, Function, Extra}}}) when is_function(Extra) ->
    {error, {bad_option, Key, {Module, Function, sealed}}};
sealed(Result) ->
    Result.

%% The C node runs no Erlang code.
no_funs_in_options(Config) ->
    Pool = ?config(pool, Config),
    [?assertEqual({error, {bad_option, init, Shown}},
                  sockpool:start_pool(Pool, (target(Config))#{init => Init}))
     || {Init, Shown} <- [{fun ?MODULE:greet/1, fun ?MODULE:greet/1}, {{?MODULE, greet, ["secret"]}, not_a_fun}]],
    ?assertEqual({error, not_found}, sockpool:stats(Pool)).

greet(Conn) ->
    ok = sockpool:send(Conn, "hello\n"),
    {ok, <<"hello\n">>} = sockpool:recv(Conn, 0),
    [{greeted, Tester} ! {greeted_on, node()} || Tester <- nodes(),
                                                 erpc:call(Tester, erlang, whereis, [greeted])
                                                     =/= undefined],
    ok.

%%% Leases between nodes.

waiters_of_two_nodes_are_served_in_order(Config) ->
    %% The backend has the only connection, so it sees the one true order.
    Tester = self(),
    Backend = sockpool_test_server:start({reply, fun(Data) -> Tester ! {served, Data}, Data end}),
    Pool = started([{server, Backend} | Config], #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    %% Those of a serving Erlang node wait in the same queue without its server.
    Nodes = client_nodes(Config),
    Waiter = fun(N) ->
                     Client = client(lists:nth(1 + N rem length(Nodes), Nodes)),
                     Ref = begin_run(Client, fun() -> wait_and_use(Pool, <<N>>) end),
                     ok = wait_until(fun() -> stat(Pool, waiting) =:= N end),
                     {Client, Ref}
             end,
    Waiters = [Waiter(N) || N <- lists:seq(1, 30)],
    ok = sockpool:checkin(Conn),
    ?assertEqual(lists:seq(1, 30), [receive {served, <<N>>} -> N end || _ <- Waiters]),
    [?assertEqual(ok, result(Ref)) || {_, Ref} <- Waiters],
    [ok = sockpool_cluster:kill(Client) || {Client, _} <- Waiters],
    #{checkouts := 31, checkins := 31, abandoned := 0, timeouts := 0} = settled(Pool),
    ok.

not_owner(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Calls = [fun() -> sockpool:send(Conn, "x") end, fun() -> sockpool:recv(Conn, 0) end,
             fun() -> sockpool:checkin(Conn) end, fun() -> sockpool:discard(Conn) end,
             fun() -> sockpool:info(Conn) end, fun() -> sockpool:peername(Conn) end,
             fun() -> sockpool:sockname(Conn) end, fun() -> sockpool:setopts(Conn, []) end,
             fun() -> sockpool:give_away(Conn, self()) end],
    Clients = [client(Node) || Node <- client_nodes(Config)],
    [?assertEqual({error, not_owner}, run(Client, Call)) || Client <- Clients, Call <- Calls],
    [ok = sockpool_cluster:kill(Client) || Client <- Clients],
    %% None of them did anything to it.
    ok = sockpool:send(Conn, "y"),
    ?assertEqual({ok, <<"y">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:checkin(Conn),
    #{checkouts := 1, closed := 0, abandoned := 0} = settled(Pool),
    ok.

give_away_to_another_node(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, "x"),
    Heirs = [client(Node) || Node <- lists:reverse(client_nodes(Config))],
    ok = give_on(Conn, self(), Heirs),
    Last = lists:last(Heirs),
    ?assertEqual({ok, <<"x">>}, run(Last, fun() -> sockpool:recv(Conn, 1) end)),
    %% Who had it before may die without harm.
    [ok = sockpool_cluster:kill(Heir) || Heir <- Heirs, Heir =/= Last],
    ?assertEqual(ok, run(Last, fun() -> sockpool:checkin(Conn) end)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    #{checkins := 1, closed := 0, abandoned := 0} = settled(Pool),
    %% Who has it now may not.
    {ok, Again} = sockpool:checkout(Pool),
    ok = sockpool:give_away(Again, Last),
    ok = sockpool_cluster:kill(Last),
    #{checkins := 1, closed := 0, abandoned := 1} = settled(Pool),
    ok.

give_on(_Conn, _Owner, []) ->
    ok;
give_on(Conn, Owner, [Heir | Heirs]) ->
    Give = fun() -> sockpool:give_away(Conn, Heir) end,
    ok = case Owner =:= self() of
             true -> Give();
             false -> run(Owner, Give)
         end,
    ?assertEqual({error, not_owner}, sockpool:info(Conn)),
    give_on(Conn, Heir, Heirs).

give_away_to_the_dead(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    [Here, Elsewhere | There] = Dead = [client(Node) || Node <- client_nodes(Config)],
    [ok = sockpool_cluster:kill(Client) || Client <- Dead],
    [?assertEqual({error, noproc}, sockpool:give_away(Conn, Client)) || Client <- [Here | There]],
    {ok, _} = sockpool:info(Conn),
    ok = sockpool:give_away(Conn, Elsewhere),
    #{abandoned := 1, closed := 0} = settled(Pool),
    ?assertEqual({error, closed}, sockpool:info(Conn)).

%% It does not wait for the checkin's answer, and must not be lost with the process that gives it.
call_behind_a_checkin(Config) ->
    Pool = {_, Node} = started(Config, #{size => 1, max_overflow => 0}),
    [begin
         {ok, Conn} = sockpool:checkout(Pool),
         Calls = [gen_server:send_request({sockpool, Node}, Request)
                  || Request <- [{info, Conn}, {End, Conn}, {info, Conn}, {End, Conn}]],
         ?assertMatch([{reply, {ok, #{}}}, {reply, ok}, {reply, {error, closed}}, {reply, {error, closed}}],
                      [gen_server:receive_response(Call, 30000) || Call <- Calls])
     end || End <- lists:append(lists:duplicate(50, [checkin, discard]))],
    #{checkins := 100, abandoned := 0} = settled(Pool),
    ok.

%%% What is none of the protocol.

bad_requests(Config) ->
    Pool = {Name, Node} = started(Config, #{}),
    Server = {sockpool, Node},
    Before = server_identity(Config),
    {ok, {Tag, Node, Incarnation, Number} = Conn} = sockpool:checkout(Pool),
    Unknown = [hello, 1, [], #{}, {}, {checkout}, {checkout, make_ref(), Name},
               {checkout, no_id, Name, 0}, {checkout, make_ref(), Pool, 0},
               {checkout, make_ref(), "name", 0}, {request, make_ref(), Pool, <<>>, 0, 0},
               {request, 1, Name, <<>>, 0, 0}, {stats, Pool}, {histograms, Pool}, {stop_pool, Pool}, {stop_pool, []},
               {checkin, Name}, {checkin, {Tag, Node}}, {checkin, Conn, dirty}, {checkin, Name, clean}, {discard, Conn, clean}, {discard, Name, exception}, {close, Conn}, {send, Conn}, {send, Conn, "x"},
               {send, Conn, "x", 0, 0}, {close, Conn, "x", 0}, {give_away, Conn, nobody},
               {timeouts, Pool}, {timeouts, "name"}, {timeouts, Name, x}],
    [?assertEqual({error, {bad_request, Request}}, gen_server:call(Server, Request))
     || Request <- Unknown],
    Others = [{{checkout, make_ref(), Name, soon}, {bad_argument, timeout, soon}},
              {{request, make_ref(), Name, [x], 0, 0}, {bad_argument, data, [x]}},
              {{request, make_ref(), Name, <<>>, -1, 0}, {bad_argument, length, -1}},
              {{send, Conn, [x | y], 0}, {bad_argument, data, [x | y]}},
              {{recv, Conn, many, 0}, {bad_argument, length, many}},
              {{recv, Conn, 0, []}, {bad_argument, timeout, []}},
              {{setopts, Conn, [a | b]}, {bad_argument, opts, [a | b]}},
              {{start_pool, Pool, #{}}, {bad_option, name, Pool}},
              {{start_pool, Name, [a | b]}, {bad_option, opts, not_a_map}},
              {{timeouts, no_such_pool}, not_found},
              {{timeouts, {Tag, Node, make_ref(), Number}}, closed},
              {{timeouts, {Tag, Node, Incarnation, Number + 1}}, closed},
              {{checkin, {Tag, Node, make_ref(), Number}}, closed},
              {{checkin, {Tag, Node, Incarnation, Number + 1}}, closed},
              {{checkin, {Tag, Node, Incarnation, [Number]}}, closed},
              {{checkin, {Tag, node(), [Incarnation | 1], Number}}, closed}],
    [?assertEqual({error, Reason}, gen_server:call(Server, Request)) || {Request, Reason} <- Others],
    [?assertEqual({ok, {5000, 5000}}, gen_server:call(Server, {timeouts, Target})) || Target <- [Name, Conn]],
    ?assertEqual(Before, server_identity(Config)),
    ok = sockpool:checkin(Conn),
    ?assertNotEqual("", lists:flatten(sockpool:format_error({bad_request, hello}))).

hostile_messages(Config) ->
    Pool = {Name, Node} = started(Config, #{}),
    Before = server_identity(Config),
    Dead = dead(),
    Deep = lists:foldl(fun(_, Term) -> {Term} end, [], lists:seq(1, 100000)),
    Froms = [nobody, {nobody, x}, {self(), [alias | none]}, {self(), [[alias | none] | x]}, {Dead, x},
             {self()}, {self(), x, y}, [self() | x], {make_ref(), x}, {Deep, Deep}],
    Requests = [hello, which_pools, {stats, Name}, {checkout, make_ref(), Name, 0},
                {request, make_ref(), Name, <<"x">>, 1, 1000}, Deep],
    Messages = [hello, Deep, {'$gen_call', hello}, {'$gen_cast', hello}, {'$gen_cast', {cancel, Deep}},
                {'$gen_cast', {cancel, {'$sockpool_lease', a, b, c}}}, {'$gen_call', a, b, c},
                {'DOWN', make_ref(), process, self(), x}, {'EXIT', self(), x}, {'EXIT', Deep, x},
                {system, nobody, get_state}, {system, {x, y}, suspend}, {system, a},
                {'$sockpool_over', self()}, {'$sockpool_over', x}, binary:copy(<<"x">>, 1000000)]
        ++ [{'$gen_call', From, Request} || From <- Froms, Request <- Requests],
    [{sockpool, Node} ! Message || Message <- Messages],
    %% Behind so many terms that are deep: under valgrind they may take longer than a call has.
    ok = wait_until(fun() -> sockpool:which_pools(Node) =/= {error, timeout} end),
    ?assertEqual({ok, [Name]}, sockpool:which_pools(Node)),
    ?assertEqual(Before, server_identity(Config)),
    %% What was asked for in the name of this process came here, and its leases with it.
    _ = settled_without_leases(Pool),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

%% The leases that were granted to this process are given back.
settled_without_leases(Pool) ->
    wait_until(fun() ->
                       receive
                           {_Tag, {ok, {'$sockpool_lease', _, _, _} = Lease}} ->
                               _ = sockpool:checkin(Lease), ok
                       after 0 -> ok
                       end,
                       case sockpool:stats(Pool) of
                           {ok, #{leased := 0, waiting := 0}} -> true;
                           Other -> Other
                       end
               end),
    settled(Pool).

node_down(Config) ->
    Nowhere = {pool, 'nobody@no.such.host.invalid'},
    Down = {error, {nodedown, 'nobody@no.such.host.invalid'}},
    [?assertEqual(Down, Result)
     || Result <- [sockpool:checkout(Nowhere), sockpool:request(Nowhere, "x", 1, 1000),
                   sockpool:stats(Nowhere), sockpool:which_pools(element(2, Nowhere)),
                   sockpool:node_stats(element(2, Nowhere)), sockpool:stop_pool(Nowhere),
                   sockpool:start_pool(Nowhere, target(Config)),
                   sockpool:execute(Nowhere, fun(_) -> ok end)]],
    ?assertError({checkout, {nodedown, _}}, sockpool:transaction(Nowhere, fun(_) -> ok end)),
    ?assertNotEqual("", lists:flatten(sockpool:format_error(element(2, Down)))),
    %% One that goes down while it is used.
    #{node := Node} = Peer = sockpool_cluster:start_peer(),
    Pool = {doomed, Node},
    ok = sockpool:start_pool(Pool, (target(Config))#{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiting = start(fun() -> sockpool:checkout(Pool, infinity) end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool_cluster:kill_vm(Peer),
    ?assertEqual({error, {nodedown, Node}}, await(Waiting)),
    ?assertEqual({error, {nodedown, Node}}, sockpool:recv(Conn, 1)),
    ?assertEqual({error, {nodedown, Node}}, sockpool:checkin(Conn)).

node_without_sockpool(Config) ->
    Node = ?config(other_node, Config),
    Pool = {pool, Node},
    [?assertEqual({error, not_found}, Result)
     || Result <- [sockpool:checkout(Pool), sockpool:stats(Pool), sockpool:which_pools(Node),
                   sockpool:stop_pool(Pool)]].
