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
    {{6, From, '', a_name}, hello} = read(sockpool_dist:send(me(), a_name, hello)),
    ?assertEqual('1BV8FTZFL8WYP@here', node(From)),
    {{2, '', Pid}, {a, "term"}} = read(sockpool_dist:send(me(), self(), {a, "term"})),
    ?assertEqual(self(), Pid).

results_test_() ->
    Stack = [{m, f, 0, []}],
    [?_assertEqual({{ended, 9}, Expected}, ended(9, Reason))
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
    Frame = written({21, self(), From, Ref, Reason}),
    {sockpool_dist:parse(Frame), sockpool_dist:result(Call, Frame)}.

refused_test() ->
    {From, Ref} = learnt(1 bsl 40),
    ?assertEqual({refused, 1 bsl 40, system_limit},
                 sockpool_dist:parse(written({31, Ref, From, 0, system_limit}))),
    ?assertEqual(other, sockpool_dist:parse(written({31, Ref, From, 2, self()}))),
    %% An atom that is no UTF-8.
    Nothing = written({31, Ref, From, 0, []}),
    Sound = binary:part(Nothing, 0, byte_size(Nothing) - 1),
    ?assertEqual({refused, 1 bsl 40, x}, sockpool_dist:parse(<<Sound/binary, 119, 1, $x>>)),
    ?assertEqual(other, sockpool_dist:parse(<<Sound/binary, 119, 1, 16#ff>>)).

%% Of another user of the connection, one from before, it is nobody's.
io_requests_test() ->
    Me = me(),
    {{29, _, From, _, _, _}, _} = read(sockpool_dist:call(Me, 1, m, f, [])),
    Request = {io_request, self(), make_ref(), {put_chars, unicode, "x"}},
    {message, To, Payload} = sockpool_dist:parse(written({2, '', From}, Request)),
    {Pid, As, What} = sockpool_dist:io_request(Me, To, Payload),
    ?assertEqual(Request, {io_request, Pid, As, What}),
    ?assertEqual(other, sockpool_dist:io_request(me(), To, Payload)),
    {message, To, Plain} = sockpool_dist:parse(written({2, '', From}, hello)),
    ?assertEqual(other, sockpool_dist:io_request(Me, To, Plain)),
    ?assertEqual(other, sockpool_dist:io_request(Me, To, <<?VERSION, 255>>)).

what_is_no_use_test_() ->
    [?_assertEqual(Expected, sockpool_dist:parse(Frame))
     || {Expected, Frame} <-
            [{tick, <<>>}, {other, <<0>>}, {other, <<?PASS_THROUGH>>}, {other, <<?PASS_THROUGH, ?VERSION>>},
             {other, written({19, self(), a_name, make_ref()})}, {other, written({1, self(), self()})},
             {other, written({6, self(), '', a_name}, hello)}, {other, written({2, '', a_name}, x)},
             {other, written({21, a_name, self(), make_ref(), x})}]].

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
    case sockpool_dist:parse(Frame) of
        {ended, Call} ->
            case sockpool_dist:result(Call, Frame) of
                {ok, _} -> ok;
                {error, _} -> ok
            end;
        {refused, Call, Reason} when is_integer(Call), is_atom(Reason) -> ok;
        {message, To, Payload} ->
            case sockpool_dist:io_request(Me, To, Payload) of
                {Pid, _, _} when is_pid(Pid) -> ok;
                other -> ok
            end;
        tick -> ok;
        other -> ok
    end.
