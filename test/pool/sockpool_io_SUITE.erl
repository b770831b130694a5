%%% Bytes on real sockets: send, recv, request, packet framings, large messages, time-outs, setopts,
%%% and what a connection tells about itself. Over TCP and over a Unix socket.
-module(sockpool_io_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([recv_exactly/1, recv_what_there_is/1, recv_keeps_a_partial_message/1, recv_timeout_0/1,
         recv_after_the_peers_close/1, recv_blocks_until_data/1, recv_limit/1,
         unread_bytes_close_at_checkin/1]).
-export([send_iodata_of_any_shape/1, send_nothing/1, send_timeout/1, default_send_timeout/1,
         send_after_the_peers_close/1]).
-export([request_raw/1, request_without_an_end/1, of_many_parts/1, request_queues/1, request_times_out/1,
         request_timeout_0/1, request_to_a_closing_server/1, request_empty/1]).
-export([packet_modes/1, packet_line/1, packet_sizes/1, packet_split_anywhere/1, packet_too_long/1,
         length_on_a_framed_connection/1]).
-export([large_messages/1, large_packets/1, large_requests_that_queued/1, answered_while_it_reads/1,
         answered_beyond_the_limit/1]).
-export([setopts_last_until_checkin/1, setopts_of_buffers_close_at_checkin/1, bad_setopts/1,
         names_and_info/1, names_after_a_reset/1, refusals_cost_no_connection/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, run_all/1,
                             elapsed_ms/1, ids/1, assert_no_messages/0]).

-define(MIB, 1048576).

all() ->
    [{group, tcp}, {group, unix}].

groups() ->
    [{tcp, cases() ++ [setopts_last_until_checkin, names_after_a_reset]},
     {unix, cases()}].

cases() ->
    [recv_exactly, recv_what_there_is, recv_keeps_a_partial_message, recv_timeout_0,
     recv_after_the_peers_close, recv_blocks_until_data, recv_limit,
     unread_bytes_close_at_checkin, send_iodata_of_any_shape, send_nothing, send_timeout,
     default_send_timeout, of_many_parts, send_after_the_peers_close, request_raw, request_without_an_end,
     request_queues, request_times_out, request_timeout_0, request_to_a_closing_server,
     request_empty, packet_modes, packet_line, packet_sizes, packet_split_anywhere,
     packet_too_long, length_on_a_framed_connection, large_messages, large_packets,
     large_requests_that_queued, answered_while_it_reads, answered_beyond_the_limit,
     setopts_of_buffers_close_at_checkin, bad_setopts, names_and_info, refusals_cost_no_connection].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_group(Group, Config) -> [{transport, Group} | Config].

end_per_group(_Group, _Config) -> ok.

init_per_testcase(_Case, Config) -> Config.

end_per_testcase(_Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()).

%%% Receiving.

recv_exactly(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{}),
    ok = sockpool:send(Conn, <<"0123456789">>),
    ?assertEqual({ok, <<"0123">>}, sockpool:recv(Conn, 4)),
    ?assertEqual({ok, <<"4">>}, sockpool:recv(Conn, 1)),
    ?assertEqual({ok, <<"56789">>}, sockpool:recv(Conn, 5, infinity)),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ?assertMatch(#{closed := 0}, settled(Pool)).

recv_what_there_is(Config) ->
    {_, Server, Conn} = conn(Config, silent, #{}),
    ok = sockpool_test_server:push(Server, "abc"),
    ?assertEqual({ok, <<"abc">>}, recv_all(Conn, 3)),
    ok = sockpool_test_server:push(Server, "i"),
    ?assertEqual({ok, <<"i">>}, sockpool:recv(Conn, packet)),
    ok = sockpool_test_server:push(Server, "j"),
    ?assertEqual({ok, <<"j">>}, sockpool:recv(Conn, packet, 5000)),
    ok = sockpool_test_server:push(Server, "defgh"),
    ?assertEqual({ok, <<"de">>}, sockpool:recv(Conn, 2)),
    ?assertEqual({ok, <<"fgh">>}, recv_all(Conn, 3)),
    ok = sockpool:checkin(Conn).

%% Reads with length 0 until there are N bytes: TCP may deliver them in pieces.
recv_all(Conn, N) -> recv_all(Conn, N, <<>>).

recv_all(_Conn, N, Done) when byte_size(Done) >= N -> {ok, Done};
recv_all(Conn, N, Done) ->
    {ok, More} = sockpool:recv(Conn, 0),
    true = byte_size(More) > 0,
    recv_all(Conn, N, <<Done/binary, More/binary>>).

recv_keeps_a_partial_message(Config) ->
    {Pool, Server, Conn} = conn(Config, silent, #{size => 1, max_overflow => 0}),
    ok = sockpool_test_server:push(Server, "abc"),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 5, 30)),
    ok = sockpool_test_server:push(Server, "de"),
    ?assertEqual({ok, <<"abcde">>}, sockpool:recv(Conn, 5)),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 0, 10)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 1, created := 2}, settled(Pool)),
    assert_no_messages().

recv_timeout_0(Config) ->
    {_, Server, Conn} = conn(Config, silent, #{}),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 0)),
    ok = sockpool_test_server:push(Server, "x"),
    wait_until(fun() -> sockpool:recv(Conn, 1, 0) =:= {ok, <<"x">>} end),
    ok = sockpool:checkin(Conn),
    assert_no_messages().

recv_after_the_peers_close(Config) ->
    {Pool, Server, Conn} = conn(Config, silent, #{size => 2, max_overflow => 0}),
    {ok, Short} = sockpool:checkout(Pool),
    ok = sockpool_test_server:push(Server, "bye"),
    ok = sockpool_test_server:close_connections(Server),
    ?assertEqual({ok, <<"bye">>}, sockpool:recv(Conn, 3)),
    ?assertEqual({error, closed}, sockpool:recv(Conn, 1)),
    ?assertEqual({error, closed}, sockpool:recv(Conn, 0)),
    ?assertEqual({error, closed}, sockpool:recv(Short, 4)),
    ?assertEqual([ok, ok], [sockpool:checkin(Conn), sockpool:checkin(Short)]),
    ?assertMatch(#{closed := 2, total := 2}, settled(Pool)).

recv_blocks_until_data(Config) ->
    {_, Server, Conn} = conn(Config, silent, #{}),
    Parent = self(),
    Reader = start(fun() ->
                           receive go -> ok end,
                           Parent ! reading,
                           Result = sockpool:recv(Conn, 3, infinity),
                           ok = sockpool:checkin(Conn),
                           Result
                   end),
    ok = sockpool:give_away(Conn, element(1, Reader)),
    element(1, Reader) ! go,
    receive reading -> ok end,
    wait_until(fun() -> process_info(element(1, Reader), status) =:= {status, waiting} end),
    ok = sockpool_test_server:push(Server, "a"),
    ok = sockpool_test_server:push(Server, "bc"),
    ?assertEqual({ok, <<"abc">>}, await(Reader)).

recv_limit(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{recv_limit => 100}),
    ?assertEqual({error, emsgsize}, sockpool:recv(Conn, 101)),
    ok = sockpool:send(Conn, binary:copy(<<"x">>, 100)),
    ?assertEqual({ok, binary:copy(<<"x">>, 100)}, sockpool:recv(Conn, 100)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, "x", 101, 1000)),
    assert_no_messages().

unread_bytes_close_at_checkin(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{size => 1, max_overflow => 0, packet => line}),
    ok = sockpool:send(Conn, "one\ntwo\n"),
    ?assertEqual({ok, <<"one\n">>}, sockpool:recv(Conn, 0)),
    ?assertEqual({ok, <<"two\n">>}, sockpool:recv(Conn, 0)),
    ok = sockpool:send(Conn, "three\nfour\n"),
    ?assertEqual({ok, <<"three\n">>}, sockpool:recv(Conn, 0)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, <<"five\n">>}, sockpool:request(Pool, "five\n", packet, 5000)),
    ?assertMatch(#{created := 2, closed := 1}, settled(Pool)).

%%% Sending.

send_iodata_of_any_shape(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{}),
    Many = [<<N:16>> || N <- lists:seq(1, 5000)],
    Big = binary:copy(<<"big">>, 30000),
    Shapes = ["string", <<"binary">>, [$a, <<"b">>, ["c", [[<<"d">>]]] | <<"tail">>], Many,
              [[], <<>>, "x", <<>>], [Big, "s", Big, "t" | Big],
              [binary:part(Big, 7, 20000), binary:part(Big, 1, 3)]],
    lists:foreach(fun(Data) ->
                          Flat = iolist_to_binary(Data),
                          ?assertEqual(ok, sockpool:send(Conn, Data)),
                          ?assertEqual({ok, Flat}, sockpool:recv(Conn, byte_size(Flat)))
                  end, Shapes),
    Bits = <<1:1, Big/binary, 0:7>>,
    ok = sockpool:send(Conn, Bits),
    ?assertEqual({ok, Bits}, sockpool:recv(Conn, byte_size(Bits))),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, iolist_to_binary(Many)},
                 sockpool:request(Pool, Many, 10000, 5000)).

send_nothing(Config) ->
    {_, _, Conn} = conn(Config, echo, #{}),
    ?assertEqual([ok, ok, ok], [sockpool:send(Conn, Data) || Data <- [[], <<>>, [[], <<>>]]]),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 0, 20)),
    ok = sockpool:checkin(Conn).

send_timeout(Config) ->
    {Pool, _, Conn} = conn(Config, sink, #{}),
    Data = binary:copy(<<"x">>, 30 * ?MIB),
    {Ms, Result} = elapsed_ms(fun() -> sockpool:send(Conn, Data, 100) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Ms >= 100),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 1}, settled(Pool)),
    {ok, Other} = sockpool:checkout(Pool),
    ?assertEqual({error, timeout}, sockpool:send(Other, Data, 0)),
    ok = sockpool:checkin(Other),
    ?assertMatch(#{closed := 2}, settled(Pool)),
    assert_no_messages().

default_send_timeout(Config) ->
    {_, _, Conn} = conn(Config, sink, #{send_timeout => 80}),
    Data = binary:copy(<<"x">>, 30 * ?MIB),
    {Ms, Result} = elapsed_ms(fun() -> sockpool:send(Conn, Data) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Ms >= 80),
    ok = sockpool:discard(Conn),
    assert_no_messages().

send_after_the_peers_close(Config) ->
    {Pool, Server, Conn} = conn(Config, echo, #{size => 1, max_overflow => 0}),
    ok = sockpool_test_server:down(Server),
    %% The first may still go into the kernel's buffer, and is then answered by a reset.
    Reason = send_until_error(Conn, 1000),
    ?assert(lists:member(Reason, [closed, econnreset, epipe])),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ok = sockpool_test_server:up(Server),
    ?assertMatch(#{closed := 1, total := 1}, settled(Pool)).

send_until_error(Conn, Left) when Left > 0 ->
    case sockpool:send(Conn, binary:copy(<<"x">>, 65536), 1000) of
        ok -> send_until_error(Conn, Left - 1);
        {error, Reason} -> Reason
    end.

%%% Requests.

request_raw(Config) ->
    Pool = pool(Config, echo, #{}),
    [?assertEqual({ok, Id}, sockpool:request(Pool, Id, byte_size(Id), Timeout))
     || Timeout <- [5000, infinity], Size <- [20, 64, 1000, 5000, 100000],
        Id <- [(ids(Size))()]],
    ?assertMatch(#{closed := 0, leased := 0, checkouts := 10, checkins := 10}, settled(Pool)),
    assert_no_messages().

request_without_an_end(Config) ->
    Pool = pool(Config, echo, #{}),
    [?assertEqual({error, {bad_argument, length, Length}}, sockpool:request(Pool, "abc", Length, 5000))
     || Length <- [packet, 0]],
    ?assertMatch(#{checkouts := 0, closed := 0}, settled(Pool)).

%% More callers than connections: most of the requests are carried by their waiters.
request_queues(Config) ->
    Pool = pool(Config, echo, #{size => 2, max_overflow => 0}),
    Results = run_all([fun() ->
                               Id = (ids(50))(),
                               Reply = sockpool:request(Pool, [Id, "!"], 51, 20000),
                               assert_no_messages(),
                               {<<Id/binary, "!">>, Reply}
                       end || _ <- lists:seq(1, 500)]),
    ?assertEqual([], [Bad || {Sent, Reply} = Bad <- Results, Reply =/= {ok, Sent}]),
    ?assertMatch(#{checkouts := 500, checkins := 500, closed := 0, total := 2}, settled(Pool)).

request_times_out(Config) ->
    Pool = pool(Config, silent, #{size => 2, max_overflow => 0}),
    {Ms, Result} = elapsed_ms(fun() -> sockpool:request(Pool, "x", 1, 60) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Ms >= 60),
    %% Some wait for their reply, and some for a connection still.
    Waiting = [fun() ->
                       Reply = sockpool:request(Pool, "x", 1, 100),
                       assert_no_messages(),
                       Reply
               end || _ <- lists:seq(1, 6)],
    ?assertEqual([{error, timeout} || _ <- Waiting], run_all(Waiting)),
    ?assertMatch(#{total := 2, idle := 2}, settled(Pool)),
    assert_no_messages().

%% More parts than C goes over at once, where it has to count their bytes, or to keep them.
of_many_parts(Config) ->
    Part = binary:copy(<<"x">>, 1000),
    Parts = [Part || _ <- lists:seq(1, 3000)],
    Bytes = iolist_to_binary(Parts),
    Framed = pool(Config, echo, #{size => 1, max_overflow => 0, packet => 4}),
    ?assertEqual({ok, Bytes}, sockpool:request(Framed, Parts, packet, 20000)),
    {ok, Conn} = sockpool:checkout(Framed),
    ok = sockpool:send(Conn, Parts, 20000),
    ?assertEqual({ok, Bytes}, sockpool:recv(Conn, 0, 20000)),
    Queued = start(fun() -> sockpool:request(Framed, Parts, packet, 20000) end),
    ok = wait_until(fun() -> stat(Framed, waiting) =:= 1 end),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, Bytes}, await(Queued)),
    ok = sockpool:stop_pool(Framed),
    Raw = pool(Config, echo, #{size => 1, max_overflow => 0}),
    {ok, Held} = sockpool:checkout(Raw),
    Waiting = start(fun() -> sockpool:request(Raw, Parts, byte_size(Bytes), 20000) end),
    ok = wait_until(fun() -> stat(Raw, waiting) =:= 1 end),
    ok = sockpool:checkin(Held),
    ?assertEqual({ok, Bytes}, await(Waiting)).

request_timeout_0(Config) ->
    Pool = pool(Config, echo, #{size => 1, max_overflow => 0}),
    Result = sockpool:request(Pool, "x", 1, 0),
    ?assert(lists:member(Result, [{error, timeout}, {ok, <<"x">>}])),
    _ = settled(Pool),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, full}, sockpool:request(Pool, "x", 1, 0)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, <<"y">>}, sockpool:request(Pool, "y", 1, 5000)),
    assert_no_messages().

request_to_a_closing_server(Config) ->
    Pool = pool(Config, {reply, fun(_) -> {close, "abc"} end}, #{size => 1, max_overflow => 0}),
    ?assertEqual({error, closed}, sockpool:request(Pool, "x", 4, 5000)),
    ?assertEqual({ok, <<"abc">>}, sockpool:request(Pool, "x", 3, 5000)),
    ?assertMatch(#{total := 1}, settled(Pool)),
    assert_no_messages().

%% Nothing to send: the server speaks by itself. Both at once and out of the queue.
request_empty(Config) ->
    Options = #{size => 1, max_overflow => 0, validate => never},
    {Pool, Server} = pool_and_server(Config, silent, Options),
    ok = sockpool_test_server:push(Server, "hello1"),
    ?assertEqual({ok, <<"hello1">>}, sockpool:request(Pool, <<>>, 6, 5000)),
    {ok, Conn} = sockpool:checkout(Pool),
    Jobs = [begin
                Job = start(fun() -> sockpool:request(Pool, [], 6, 5000) end),
                wait_until(fun() -> stat(Pool, waiting) =:= Waiting end),
                Job
            end || Waiting <- [1, 2]],
    ok = sockpool:checkin(Conn),
    [begin
         ok = sockpool_test_server:push(Server, Hello),
         ?assertEqual({ok, Hello}, await(Job))
     end || {Hello, Job} <- lists:zip([<<"hello2">>, <<"hello3">>], Jobs)],
    ?assertMatch(#{closed := 0, checkouts := 4}, settled(Pool)).

%%% Framings.

packet_modes(Config) ->
    lists:foreach(fun(Packet) ->
                          {Pool, _, Conn} = conn(Config, echo, #{packet => Packet}),
                                                ok = sockpool:send(Conn, ["first", <<" one">>]),
                          ok = sockpool:send(Conn, "second"),
                          ?assertEqual({ok, <<"first one">>}, sockpool:recv(Conn, 0)),
                          ?assertEqual({ok, <<"second">>}, sockpool:recv(Conn, 0)),
                          ok = sockpool:send(Conn, []),
                          ?assertEqual({ok, <<>>}, sockpool:recv(Conn, 0)),
                          ok = sockpool:checkin(Conn),
                          ?assertEqual({ok, <<"r">>}, sockpool:request(Pool, "r", packet, 5000)),
                          ?assertEqual({ok, <<>>}, sockpool:request(Pool, "", 0, 5000)),
                          ?assertMatch(#{closed := 0}, settled(Pool))
                  end, [1, 2, 4]).

packet_line(Config) ->
    {_, Server, Conn} = conn(Config, silent, #{packet => line}),
    ok = sockpool_test_server:push(Server, "one\r\ntw"),
    ?assertEqual({ok, <<"one\r\n">>}, sockpool:recv(Conn, 0)),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 0, 20)),
    ok = sockpool_test_server:push(Server, "o\n\nfour\n"),
    ?assertEqual([{ok, <<"two\n">>}, {ok, <<"\n">>}, {ok, <<"four\n">>}],
                 [sockpool:recv(Conn, 0) || _ <- [1, 2, 3]]),
    ok = sockpool:checkin(Conn).

packet_sizes(Config) ->
    lists:foreach(fun({Packet, Sizes, TooLong}) ->
                          {Pool, _, Conn} = conn(Config, echo, #{packet => Packet}),
                          [begin
                               Data = rand:bytes(Size),
                               ok = sockpool:send(Conn, Data),
                               ?assertEqual({ok, Data}, sockpool:recv(Conn, 0))
                           end || Size <- Sizes],
                          [?assertEqual({error, emsgsize},
                                        sockpool:send(Conn, binary:copy(<<"x">>, Size)))
                           || Size <- TooLong],
                          ok = sockpool:checkin(Conn),
                                                [?assertEqual({error, emsgsize},
                                        sockpool:request(Pool, binary:copy(<<"x">>, Size),
                                                         packet, 5000))
                           || Size <- TooLong]
                  end,
                  [{1, [1, 254, 255], [256]},
                   {2, [1, 1023, 1024, 16381, 16382, 16383, 65535], [65536]},
                   {4, [16380, 16384, 65532, 65536, 262140, 300000], []}]).

%% A reply in two pieces, cut at every place.
packet_split_anywhere(Config) ->
    Cases = [{1, <<5, "hello">>, <<"hello">>}, {2, <<0, 5, "hello">>, <<"hello">>},
             {4, <<0, 0, 0, 5, "hello">>, <<"hello">>}, {line, <<"hello\n">>, <<"hello\n">>}],
    lists:foreach(fun({Packet, Bytes, Message}) ->
                          {_, Server, Conn} = conn(Config, silent, #{packet => Packet}),
                          [split(Server, Conn, Bytes, Message, At)
                           || At <- lists:seq(1, byte_size(Bytes) - 1)],
                          ok = sockpool:discard(Conn)
                  end, Cases).

split(Server, Conn, Bytes, Message, At) ->
    <<First:At/binary, Second/binary>> = Bytes,
    ok = sockpool_test_server:push(Server, First),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 0, 1)),
    ok = sockpool_test_server:push(Server, [Second, Bytes]),
    ?assertEqual({ok, Message}, sockpool:recv(Conn, 0)),
    ?assertEqual({ok, Message}, sockpool:recv(Conn, 0)).

packet_too_long(Config) ->
    lists:foreach(fun({Packet, Bytes}) ->
                          {Pool, Server, Conn} = conn(Config, silent,
                                                #{packet => Packet, recv_limit => 10}),
                          ok = sockpool_test_server:push(Server, Bytes),
                          ?assertEqual({error, emsgsize}, sockpool:recv(Conn, 0)),
                          ok = sockpool:checkin(Conn),
                          ?assertMatch(#{closed := 1}, settled(Pool))
                  end,
                  [{1, <<11>>}, {2, <<0, 11>>}, {4, <<255, 255, 255, 255>>},
                   {line, <<"0123456789">>}, {line, <<"0123456789\n">>}]).

length_on_a_framed_connection(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{packet => 2, size => 1, max_overflow => 0}),
    ok = sockpool:send(Conn, "hello"),
    ok = sockpool:send(Conn, "more"),
    ?assertEqual({ok, <<0, 5, "he">>}, sockpool:recv(Conn, 4)),
    ?assertEqual({ok, <<"llo">>}, sockpool:recv(Conn, 3)),
    ?assertEqual({ok, <<"more">>}, sockpool:recv(Conn, packet)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, <<0, 1, "x">>}, sockpool:request(Pool, "x", 3, 5000)),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", packet, 5000)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)),
    assert_no_messages().

%%% Large messages, both ways.

large_messages(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{size => 1, max_overflow => 0}),
    [begin
         Data = rand:bytes(Size),
         Sender = sockpool:send(Conn, Data, 30000),
         {Size, ok, {ok, Data}} = {Size, Sender, sockpool:recv(Conn, Size, 30000)}
     end || Size <- [?MIB - 1, ?MIB, 5 * ?MIB + 3, 20 * ?MIB]],
    ok = sockpool:checkin(Conn),
    [begin
         Data = rand:bytes(Size),
         {Size, {ok, Data}} = {Size, sockpool:request(Pool, Data, Size, 30000)}
     end || Size <- [?MIB, 20 * ?MIB]],
    ?assertMatch(#{closed := 0, total := 1}, settled(Pool)),
    assert_no_messages().

large_packets(Config) ->
    Pool = pool(Config, echo, #{packet => 4, size => 1, max_overflow => 0}),
    [begin
         Data = rand:bytes(Size),
         {Size, {ok, Data}} = {Size, sockpool:request(Pool, [Data], packet, 30000)}
     end || Size <- [?MIB - 4, ?MIB, 10 * ?MIB]],
    ?assertMatch(#{closed := 0, total := 1}, settled(Pool)).

%% Granted while they wait: the first bytes are sent by whoever checks in.
large_requests_that_queued(Config) ->
    Pool = pool(Config, echo, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Jobs = [start(fun() ->
                          Data = rand:bytes(Size),
                          {ok, Data} = sockpool:request(Pool, Data, Size, 30000),
                          assert_no_messages()
                  end) || Size <- [?MIB, 3 * ?MIB, 100, 2 * ?MIB]],
    wait_until(fun() -> stat(Pool, waiting) =:= 4 end),
    ok = sockpool:checkin(Conn),
    ?assertEqual([ok, ok, ok, ok], [await(Job) || Job <- Jobs]),
    ?assertMatch(#{closed := 0, total := 1}, settled(Pool)).

%% What the system keeps for both of them is less than they send.
-define(BUFFERS, sndbuf => 65536, recbuf => 65536).

%% It reads on only when its answer is taken.
answered_while_it_reads(Config) ->
    Data = rand:bytes(20 * ?MIB),
    {Pool, _, Conn} = conn(Config, {script, fun sockpool_test_server:in_step/1}, #{?BUFFERS, size => 1, max_overflow => 0}),
    ok = sockpool:send(Conn, Data, 60000),
    ?assert({ok, Data} =:= sockpool:recv(Conn, byte_size(Data), 60000)),
    ok = sockpool:checkin(Conn),
    ?assert({ok, Data} =:= sockpool:request(Pool, Data, byte_size(Data), 60000)),
    %% Sent by whoever checks in, as far as that goes.
    {ok, Again} = sockpool:checkout(Pool),
    Queued = start(fun() -> {ok, Data} =:= sockpool:request(Pool, Data, byte_size(Data), 60000) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool:checkin(Again),
    ?assert(await(Queued)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

answered_beyond_the_limit(Config) ->
    Data = rand:bytes(30 * ?MIB),
    {Pool, _, Conn} = conn(Config, {script, fun sockpool_test_server:in_step/1}, #{?BUFFERS, recv_limit => ?MIB, size => 1, max_overflow => 0}),
    ?assertEqual({error, timeout}, sockpool:send(Conn, Data, 1000)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 1}, settled(Pool)).

%%% Options and names.

setopts_last_until_checkin(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{size => 1, max_overflow => 0}),
    {ok, Name} = sockpool:sockname(Conn),
    ?assertEqual(ok, sockpool:setopts(Conn, [{packet, 2}, {nodelay, false}, {keepalive, true}])),
    ?assertMatch({ok, #{packet := 2}}, sockpool:info(Conn)),
    ok = sockpool:send(Conn, "framed"),
    ok = sockpool:setopts(Conn, [{packet, raw}]),
    ?assertEqual({ok, <<0, 6, "framed">>}, sockpool:recv(Conn, 8)),
    ok = sockpool:setopts(Conn, [{packet, line}]),
    ok = sockpool:checkin(Conn),
    {ok, Again} = sockpool:checkout(Pool),
    ?assertMatch({ok, #{packet := raw, sockname := Name}}, sockpool:info(Again)),
    ?assertEqual(ok, sockpool:setopts(Again, [])),
    ok = sockpool:checkin(Again),
    ?assertMatch(#{closed := 0}, settled(Pool)).

setopts_of_buffers_close_at_checkin(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{size => 1, max_overflow => 0}),
    ?assertEqual(ok, sockpool:setopts(Conn, [{sndbuf, 32768}, {recbuf, 32768}])),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 1, total := 1}, settled(Pool)).

bad_setopts(Config) ->
    {_, _, Conn} = conn(Config, echo, #{}),
    [?assertEqual({error, {bad_option, Key, Value}}, sockpool:setopts(Conn, [{Key, Value}]))
     || {Key, Value} <- [{packet, 3}, {packet, "raw"}, {nodelay, 1}, {keepalive, undefined},
                         {sndbuf, 0}, {recbuf, -1}, {sndbuf, 1.5}, {active, true}, {"packet", 1},
                         {a_word_much_too_long_to_be_an_option, true}]],
    [?assertEqual({error, {bad_argument, opts, Opts}}, sockpool:setopts(Conn, Opts))
     || Opts <- [not_a_list, [packet], [{packet, 1, 2}], #{}]],
    ?assertEqual({error, {bad_argument, opts, tail}},
                 sockpool:setopts(Conn, [{packet, 1} | tail])),
    ok = sockpool:checkin(Conn).

names_and_info(Config) ->
    {Pool, Server, Conn} = conn(Config, echo, #{packet => line}),
    Transport = ?config(transport, Config),
    {ok, Peer} = sockpool:peername(Conn),
    {ok, Own} = sockpool:sockname(Conn),
    {ok, Info} = sockpool:info(Conn),
    ?assertMatch(#{pool := Pool, transport := Transport, packet := line, peername := Peer,
                   sockname := Own}, Info),
    Tcp = case {Transport, os:type()} of {tcp, {unix, linux}} -> [tcp]; _ -> [] end,
    ?assertEqual([age, packet, peername, pool, sockname] ++ Tcp ++ [transport], lists:sort(maps:keys(Info))),
    ?assertEqual(Tcp, [tcp || #{tcp := #{rtt := Rtt, cwnd := Cwnd, retransmits := 0}} <- [Info], Rtt > 0, Cwnd > 0]),
    Age = maps:get(age, Info),
    ?assert(is_integer(Age) andalso Age >= 0),
    case Transport of
        tcp -> ?assertEqual({{127, 0, 0, 1}, sockpool_test_server:port(Server)}, Peer);
        unix -> ?assertEqual({local, list_to_binary(maps:get(path, Server))}, Peer)
    end,
    ok = sockpool:checkin(Conn).

names_after_a_reset(Config) ->
    Reset = {script, fun(Socket) ->
                             {ok, _} = gen_tcp:recv(Socket, 0),
                             inet:setopts(Socket, [{linger, {true, 0}}])
                     end},
    {_, _, Conn} = conn(Config, Reset, #{}),
    {ok, #{peername := Peer, sockname := Own}} = sockpool:info(Conn),
    ok = sockpool:send(Conn, "x"),
    ?assertEqual({error, econnreset}, sockpool:recv(Conn, 1)),
    ?assertMatch({ok, #{peername := Peer, sockname := Own}}, sockpool:info(Conn)),
    ?assertEqual([{ok, Peer}, {ok, Own}], [sockpool:peername(Conn), sockpool:sockname(Conn)]),
    ok = sockpool:checkin(Conn).

%% What cannot be done is said before a connection is the worse for it.
refusals_cost_no_connection(Config) ->
    Pool = pool(Config, echo, #{size => 1, max_overflow => 0, packet => 1, recv_limit => 100}),
    Long = binary:copy(<<"x">>, 300),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, Long, packet, 5000)),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, Long, packet, 10)),
    ?assertEqual({error, emsgsize}, sockpool:send(Conn, Long)),
    ok = sockpool:setopts(Conn, [{packet, raw}]),
    ?assertEqual({error, emsgsize}, sockpool:recv(Conn, 101)),
    ?assertMatch({error, {bad_option, nodelay, 1}}, sockpool:setopts(Conn, [{nodelay, 1}])),
    _ = ?config(transport, Config) =:= unix andalso
        [?assertEqual({error, enoprotoopt}, sockpool:setopts(Conn, [{Key, true}]))
         || Key <- [nodelay, keepalive]],
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", packet, 5000)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)),
    Raw = pool(Config, echo, #{size => 1, max_overflow => 0, recv_limit => 100}),
    ?assertEqual({error, emsgsize}, sockpool:request(Raw, "x", 101, 5000)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Raw)),
    assert_no_messages().

%%% Helpers.

server(Config, Behaviour) ->
    case ?config(transport, Config) of
        tcp -> sockpool_test_server:start(Behaviour);
        unix -> sockpool_test_server:start(Behaviour,
                                           #{path => sockpool_test_util:unix_path()})
    end.

pool(Config, Behaviour, Options) ->
    element(1, pool_and_server(Config, Behaviour, Options)).

%% A pool's counters go on over its restarts, so each pool has a name of its own.
pool_and_server(Config, Behaviour, Options) ->
    Server = server(Config, Behaviour),
    Pool = list_to_atom("io_" ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), Options)),
    #{total := Total} = settled(Pool),
    wait_until(fun() -> sockpool_test_server:accepted(Server) =:= Total end),
    {Pool, Server}.

conn(Config, Behaviour, Options) ->
    {Pool, Server} = pool_and_server(Config, Behaviour, Options),
    {ok, Conn} = sockpool:checkout(Pool),
    {Pool, Server, Conn}.
