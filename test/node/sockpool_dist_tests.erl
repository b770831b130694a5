-module(sockpool_dist_tests).

-include_lib("eunit/include/eunit.hrl").

-define(VERSION, 131).
-define(PASS_THROUGH, 112).

me() -> sockpool_dist:identity(<<"1BV8FTZFL8WYP@here">>, 7).

%% What a node reads: the control message, and the payload where there is one.
read(Frame) ->
    <<?PASS_THROUGH, Terms/binary>> = iolist_to_binary(Frame),
    {Control, Used} = binary_to_term(Terms, [used]),
    case Terms of
        <<_:Used/binary>> -> Control;
        <<_:Used/binary, Payload/binary>> -> {Control, binary_to_term(Payload)}
    end.

%% What a node writes.
written(Control) -> <<?PASS_THROUGH, (term_to_binary(Control))/binary>>.
written(Control, Payload) -> <<(written(Control))/binary, (term_to_binary(Payload))/binary>>.

%% The pid and the reference that a node has learnt from a call.
learnt(Call) ->
    {{29, Ref, From, From, {erpc, execute_call, 4}, [monitor]}, [Call, m, f, [1, "x"]]} =
        read(sockpool_dist:call(me(), Call, m, f, [1, "x"])),
    {From, Ref}.

a_call_is_a_request_to_spawn_test() ->
    {From, Ref} = learnt(5),
    ?assert(is_pid(From)),
    ?assertEqual('1BV8FTZFL8WYP@here', node(From)),
    ?assert(is_reference(Ref)),
    {_, Other} = learnt(6),
    ?assertNotEqual(Ref, Other).

messages_test() ->
    {{6, From, '', a_name}, hello} = message(a_name, hello),
    ?assertEqual('1BV8FTZFL8WYP@here', node(From)),
    ?assertMatch({{6, _, '', a_name}, hello}, message({a_name, node()}, hello)),
    {{2, '', Pid}, {a, "term"}} = message(self(), {a, "term"}),
    ?assertEqual(self(), Pid),
    [?assertEqual({error, {bad_argument, destination, To}}, sockpool_dist:message(me(), node(), To, hello))
     || To <- [{a_name, 'another@here'}, learnt_pid(), "name", {self(), node()}]].

message(To, Message) ->
    {ok, Frame} = sockpool_dist:message(me(), node(), To, Message),
    read(Frame).

%% Of another node.
learnt_pid() -> element(1, learnt(1)).

results_test_() ->
    Stack = [{m, f, 0, []}],
    [?_assertEqual(Expected, ended(9, Reason))
     || {Reason, Expected} <-
            [{{9, return, {error, x}}, {ok, {error, x}}},
             {{9, throw, x}, {error, {exception, throw, x, []}}},
             {{9, exit, x}, {error, {exception, exit, x, []}}},
             {{9, error, x, Stack}, {error, {exception, error, x, Stack}}},
             {{9, error, {erpc, badarg}}, {error, {exception, error, badarg, []}}},
             {killed, {error, {exception, exit, {signal, killed}, []}}},
             {{8, return, x}, {error, {exception, exit, {signal, {8, return, x}}, []}}}]].

ended(Call, Reason) ->
    {From, Ref} = learnt(Call),
    {ended, Call, Outcome} = incoming(written({21, self(), From, Ref, Reason})),
    sockpool_dist:result(Call, Outcome).

incoming(Frame) -> sockpool_dist:incoming(me(), Frame).

refused_test() ->
    {From, Ref} = learnt(1 bsl 40),
    {ended, Call, Outcome} = incoming(written({31, Ref, From, 0, system_limit})),
    ?assertEqual({1 bsl 40, {error, {spawn, system_limit}}}, {Call, sockpool_dist:result(Call, Outcome)}),
    ?assertEqual(nothing, incoming(written({31, Ref, From, 2, self()}))),
    %% An atom that is no UTF-8.
    Nothing = written({31, Ref, From, 0, []}),
    Sound = binary:part(Nothing, 0, byte_size(Nothing) - 1),
    ?assertMatch({ended, 1 bsl 40, _}, incoming(<<Sound/binary, 119, 1, $x>>)),
    ?assertEqual(nothing, incoming(<<Sound/binary, 119, 1, 16#ff>>)).

%% Of another user of the connection, one from before, it is nobody's.
io_requests_test() ->
    Me = me(),
    {{29, _, From, _, _, _}, _} = read(sockpool_dist:call(Me, 1, m, f, [])),
    Request = {io_request, self(), make_ref(), {put_chars, unicode, "x"}},
    {io, {Pid, As, What}} = sockpool_dist:incoming(Me, written({2, '', From}, Request)),
    ?assertEqual(Request, {io_request, Pid, As, What}),
    ?assertEqual({{2, '', Pid}, {io_reply, As, ok}}, read(sockpool_dist:io_reply(Me, {Pid, As}, ok))),
    ?assertEqual(nothing, incoming(written({2, '', From}, Request))),
    ?assertEqual(nothing, sockpool_dist:incoming(Me, written({2, '', From}, hello))),
    ?assertEqual(nothing, sockpool_dist:incoming(Me, <<(written({2, '', From}))/binary, ?VERSION, 255>>)).

what_is_no_use_test_() ->
    [?_assertEqual(nothing, incoming(Frame))
     || Frame <- [<<0>>, <<?PASS_THROUGH>>, <<?PASS_THROUGH, ?VERSION>>,
                  written({6, self(), '', a_name}, hello), written({2, '', a_name}, x),
                  written({21, a_name, self(), make_ref(), x})]].

what_is_to_be_answered_test() ->
    ?assertEqual(tick, incoming(<<>>)),
    Ref = make_ref(),
    {say, Answer} = incoming(written({19, self(), a_name, Ref})),
    ?assertEqual({21, a_name, self(), Ref, noproc}, read(Answer)),
    {From, _} = learnt(1),
    {say, NotLinked} = incoming(written({1, self(), From})),
    ?assertEqual({3, From, self(), noproc}, read(NotLinked)).

%% Whatever a node sends: no exception, and only answers to calls are answers.
broken_frames_test() ->
    Seed = sockpool_test_util:seed(),
    _ = rand:seed(exsss, Seed),
    io:format("SOCKPOOL_SEED=~b", [Seed]),
    Me = me(),
    {From, Ref} = learnt(3),
    Frames = [written({21, self(), From, Ref, {3, return, [1.5, "text", <<"bytes">>]}}),
              written({31, Ref, From, 0, system_limit}),
              written({2, '', From}, {io_request, self(), make_ref(), {put_chars, unicode, "x"}})],
    [survived(Me, binary:part(Frame, 0, Len)) || Frame <- Frames, Len <- lists:seq(0, byte_size(Frame))],
    [survived(Me, changed(Frame, rand:uniform(3))) || Frame <- Frames, _ <- lists:seq(1, 5000)].

changed(Frame, 0) ->
    Frame;
changed(Frame, Changes) ->
    At = rand:uniform(byte_size(Frame)) - 1,
    <<Before:At/binary, _, After/binary>> = Frame,
    changed(<<Before/binary, (rand:uniform(256) - 1), After/binary>>, Changes - 1).

survived(Me, Frame) ->
    case sockpool_dist:incoming(Me, Frame) of
        {ended, Call, Outcome} when is_integer(Call) ->
            case sockpool_dist:result(Call, Outcome) of
                {ok, _} -> ok;
                {error, _} -> ok
            end;
        {io, {From, _ReplyAs, _Request}} when is_pid(From) -> ok;
        {say, Answer} when is_binary(Answer) -> ok;
        tick -> ok;
        nothing -> ok
    end.
