%%% A pool in which most idle connections are dead and come first, and the last ones are alive.
-module(sockpool_dead_idle).

-export([start/3]).

-import(sockpool_test_util, [settled/1]).

%% Starts it; more of them are dead than one call gets rid of.
-spec start(sockpool:pool(), pos_integer(), pos_integer()) -> ok.
start(Pool, Dead, Alive) ->
    Test = self(),
    Server = sockpool_test_server:start({script, fun(Socket) ->
        {ok, {_, Port}} = inet:peername(Socket),
        Test ! {serving, Port, self()},
        receive die -> ok end
    end}),
    ok = sockpool:start_pool(Pool, (sockpool_test_server:target(Server))#{size => Dead + Alive, max_overflow => 0}),
    _ = settled(Pool),
    Conns = [begin {ok, Conn} = sockpool:checkout(Pool, 10000), Conn end
             || _ <- lists:seq(1, Dead + Alive)],
    {Living, Dying} = lists:split(Alive, Conns),
    lists:foreach(fun end_server_of/1, Dying),
    %% Who came last goes first.
    lists:foreach(fun(Conn) -> ok = sockpool:checkin(Conn) end, Living ++ Dying).

end_server_of(Conn) ->
    {ok, {_, Port}} = sockpool:sockname(Conn),
    receive
        {serving, Port, Pid} ->
            Monitor = monitor(process, Pid),
            Pid ! die,
            receive {'DOWN', Monitor, process, Pid, normal} -> ok end
    end.
