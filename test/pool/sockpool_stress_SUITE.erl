%%% sockpool_stress in this VM and through the daemon: some seconds here, minutes by `make test-stress'.
-module(sockpool_stress_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([in_the_vm/1, through_the_daemon/1]).

suite() -> [{timetrap, {seconds, 300 + sockpool_stress:seconds()}}].

all() -> [in_the_vm, through_the_daemon].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    #{level := Level} = logger:get_primary_config(),
    %% Pools are crashed on purpose.
    ok = logger:set_primary_config(level, none),
    {ok, _} = application:ensure_all_started(sockpool),
    [{log_level, Level} | Config].

end_per_suite(Config) ->
    ok = logger:set_primary_config(level, ?config(log_level, Config)),
    application:stop(sockpool).

in_the_vm(Config) ->
    Descriptors = sockpool_test_util:descriptors(),
    Processes = erlang:system_info(process_count),
    stress(Config, [calm, victim_1, victim_2], fun sockpool_stress:crash/1),
    sockpool_test_util:wait_until(fun() -> sockpool_test_util:descriptors() =< Descriptors
                                               orelse sockpool_test_util:descriptors() end),
    sockpool_test_util:wait_until(fun() -> erlang:system_info(process_count) =< Processes
                                               orelse erlang:system_info(process_count) end).

through_the_daemon(Config) ->
    sockpool_c_daemon:if_built(fun() -> through_the_daemon_built(Config) end).

through_the_daemon_built(Config) ->
    #{node := Node} = Daemon = sockpool_c_daemon:start(),
    {ok, []} = sockpool:which_pools(Node),
    Descriptors = sockpool_c_daemon:descriptors(Daemon),
    stress(Config, [{calm, Node}, {victim_1, Node}, {victim_2, Node}],
           fun(_Pool) -> ok = sockpool_c_daemon:hang_up(Daemon), garbage(Node) end),
    sockpool_test_util:wait_until(fun() -> sockpool_c_daemon:descriptors(Daemon) =:= Descriptors
                                               orelse sockpool_c_daemon:descriptors(Daemon) end),
    ?assertEqual(0, sockpool_c_daemon:stop(Daemon)).

%% From somebody who is no node.
garbage(Node) ->
    [Name, Host] = string:lexemes(atom_to_list(Node), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    {ok, Socket} = gen_tcp:connect(Host, Port, [binary, {active, false}]),
    _ = gen_tcp:send(Socket, rand:bytes(rand:uniform(3000))),
    gen_tcp:close(Socket).

stress(Config, [Calm | Victims], Trouble) ->
    Stats = sockpool_stress:run(#{calm => Calm, victims => Victims, trouble => Trouble,
                                  seed => ?config(seed, Config), seconds => sockpool_stress:seconds()}),
    ct:pal("~p", [Stats]).
