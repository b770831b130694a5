%%% The scripted server of the suites: where it does not do as told, they fail in place of it.
-module(sockpool_test_server_tests).

-include_lib("eunit/include/eunit.hrl").

-import(sockpool_test_util, [start/1, await/1, wait_until/1]).

%% Of a machine that is shared with others.
-define(TIMEOUT_S, 120).
-define(REPLY_MS, 30000).

serves_again_test_() ->
    {timeout, ?TIMEOUT_S, fun serves_again_after_a_late_accept/0}.

%% A connection is accepted when the server has been asked to go down and has not come to it.
serves_again_after_a_late_accept() ->
    #{pid := Pid} = Server = sockpool_test_server:start(silent),
    true = erlang:suspend_process(Pid),
    Down = start(fun() -> sockpool_test_server:down(Server) end),
    wait_until(fun() -> messages(Pid) =:= 1 end),
    Late = connect(Server),
    wait_until(fun() -> messages(Pid) =:= 2 end),
    true = erlang:resume_process(Pid),
    ok = await(Down),
    ?assertMatch({error, _Gone}, gen_tcp:recv(Late, 1)),
    ?assertEqual(0, sockpool_test_server:live(Server)),
    ok = sockpool_test_server:up(Server, echo),
    Echoed = connect(Server),
    ok = gen_tcp:send(Echoed, "echo"),
    ?assertEqual({ok, <<"echo">>}, gen_tcp:recv(Echoed, 4, ?REPLY_MS)),
    ?assertEqual(2, sockpool_test_server:accepted(Server)),
    ok = sockpool_test_server:down(Server),
    ok = sockpool_test_server:stop(Server).

messages(Pid) ->
    {message_queue_len, Length} = process_info(Pid, message_queue_len),
    Length.

connect(#{ip := Ip, port := Port}) ->
    {ok, Socket} = gen_tcp:connect(Ip, Port, [binary, {active, false}]),
    Socket.
