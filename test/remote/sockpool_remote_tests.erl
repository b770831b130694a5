%%% Pools of other nodes, as a VM sees them that is no node of a cluster. The rest is in
%%% sockpool_remote_SUITE and sockpool_remote_ends_SUITE.
-module(sockpool_remote_tests).

-include_lib("eunit/include/eunit.hrl").

alone_test_() ->
    {setup, fun setup/0, fun(_) -> application:stop(sockpool) end,
     [fun not_distributed/0, fun bad_arguments/0, fun leases_of_nobody/0,
      fun name_is_taken/0, fun stop_and_start/0]}.

setup() ->
    {ok, _} = application:ensure_all_started(sockpool),
    ?assertNot(is_alive()).

not_distributed() ->
    Pool = {pool, 'some@where'},
    [?assertEqual({error, not_alive}, Result)
     || Result <- [sockpool:checkout(Pool), sockpool:checkout(Pool, infinity), sockpool:stats(Pool),
                   sockpool:request(Pool, "x", 1, infinity), sockpool:which_pools('some@where'),
                   sockpool:node_stats('some@where'), sockpool:stop_pool(Pool),
                   sockpool:start_pool(Pool, #{}), sockpool:call(Pool, m, f, [], infinity),
                   sockpool:send_to(Pool, x, y), sockpool:send_to(Pool, x, y, 1)]],
    ?assertNotEqual(nomatch, string:find(sockpool:format_error(not_alive), "-sname")).

bad_arguments() ->
    Data = [300],
    [?assertEqual({error, {bad_argument, Name, Value}}, Result)
     || {Name, Value, Result} <-
            [{pool, {"p", node()}, sockpool:checkout({"p", node()})},
             {pool, {p, "n"}, sockpool:checkout({p, "n"}, 0)},
             {pool, {p, n, o}, sockpool:request({p, n, o}, "x", 1, 0)},
             {node, "n", sockpool:which_pools("n")},
             {node, {n}, sockpool:node_stats({n})},
             {timeout, soon, sockpool:checkout({p, n}, soon)},
             {length, -1, sockpool:request({p, n}, "x", -1, 0)},
             {data, Data, sockpool:request({p, n}, Data, 1, 0)},
             {timeout, soon, sockpool:send_to({p, n}, x, y, soon)}]],
    [?assert(length(lists:flatten(sockpool:format_error({bad_argument, Name, x}))) > 20)
     || Name <- [pool, node, pid]].

%% Of the server of this VM, which has granted none.
leases_of_nobody() ->
    Lease = {'$sockpool_lease', node(), make_ref(), 1},
    [?assertEqual({error, closed}, Result)
     || Result <- [sockpool:checkin(Lease), sockpool:discard(Lease), sockpool:send(Lease, "x"),
                   sockpool:recv(Lease, 1), sockpool:info(Lease), sockpool:peername(Lease),
                   sockpool:sockname(Lease), sockpool:setopts(Lease, []),
                   sockpool:give_away(Lease, self())]],
    ?assertEqual({error, {bad_argument, pid, x}}, sockpool:give_away(Lease, x)).

name_is_taken() ->
    ?assertEqual({error, {already_started, whereis(sockpool)}}, sockpool_server:start_link()).

stop_and_start() ->
    Lease = {'$sockpool_lease', node(), make_ref(), 1},
    Server = whereis(sockpool),
    Monitor = monitor(process, Server),
    ok = application:stop(sockpool),
    receive {'DOWN', Monitor, process, Server, Reason} -> ?assertEqual(shutdown, Reason) end,
    ?assertEqual({error, closed}, sockpool:checkin(Lease)),
    ?assertEqual({error, not_found}, sockpool_remote:which_pools(node())),
    {ok, _} = application:ensure_all_started(sockpool).
