%%% Framings on real sockets: each message whole, however its bytes come, and nothing of it in another.
-module(sockpool_framing_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([split_anywhere/1, all_in_one_piece/1, headers_are_added/1, lengths_that_do_not_fit/1, too_long/1, no_message/1,
         as_options_of_a_connection/1, info_says_which/1, refused/1, bytes_behind_a_message/1, begin_of_a_message/1,
         requests/1, until/1, until_in_time/1, until_with_wrong_arguments/1, large/1]).
-export([function/1, function_with_extra_arguments/1, function_of_a_connection/1, function_in_a_request/1,
         function_is_shown_what_there_is/1, function_that_fails/1, function_asks_for_too_much/1, what_was_shown_stays/1,
         functions_are_refused/1]).
-export([counted/1, line/2]).

-import(sockpool_test_util, [settled/1, wait_until/1, run_all/1, ids/1, assert_no_messages/0]).

all() -> [{group, tcp}, {group, unix}, {group, c_node}].

%% The last is tcp through the daemon.
groups() ->
    [{Transport, [], cases() ++ functions()} || Transport <- [tcp, unix]] ++ [{c_node, [], [functions_are_refused | cases()]}].

cases() ->
    [split_anywhere, all_in_one_piece, headers_are_added, lengths_that_do_not_fit, too_long, no_message,
     as_options_of_a_connection, info_says_which, refused, bytes_behind_a_message, begin_of_a_message, requests,
     until, until_in_time, until_with_wrong_arguments, large].

functions() ->
    [function, function_with_extra_arguments, function_of_a_connection, function_in_a_request,
     function_is_shown_what_there_is, function_that_fails, function_asks_for_too_much, what_was_shown_stays].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_group(c_node, Config) ->
    sockpool_c_daemon:if_built(
      fun() ->
              ok = sockpool_cluster:be_a_node(),
              [{transport, tcp}, {daemon, sockpool_c_daemon:start()} | Config]
      end);
init_per_group(Transport, Config) ->
    [{transport, Transport} | Config].

end_per_group(c_node, Config) -> 0 = sockpool_c_daemon:stop(?config(daemon, Config));
end_per_group(_Group, _Config) -> ok.

init_per_testcase(_Case, Config) -> Config.

end_per_testcase(_Case, Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()),
    case ?config(daemon, Config) of
        undefined -> ok;
        #{node := Node} ->
            {ok, Pools} = sockpool:which_pools(Node),
            [sockpool:stop_pool({Pool, Node}) || Pool <- Pools]
    end.

%% {Framing, [{Bytes of the stream, Message}]}.
framings() ->
    [{{length, #{}}, kept([<<0, 0, 0, 5, "hello">>, <<0, 0, 0, 0>>])},
     {{length, #{header => strip}}, [{<<0, 0, 0, 5, "hello">>, <<"hello">>}, {<<0, 0, 0, 0>>, <<>>}]},
     %% PostgreSQL: a kind, then a length that counts itself.
     {{length, #{offset => 1, adjust => -4}}, kept([<<"Z", 0, 0, 0, 5, "I">>, <<"1", 0, 0, 0, 4>>])},
     %% MySQL: three bytes, little, and behind them a number that the length does not count.
     {{length, #{bytes => 3, endian => little, adjust => 1}}, kept([<<2, 0, 0, 7, "ab">>, <<0, 0, 0, 8>>])},
     %% AMQP: kind and channel, a length, and behind the payload one byte more.
     {[{length, [{offset, 3}, {adjust, 1}]}], kept([<<1, 0, 0, 0, 0, 0, 3, "abc", 16#ce>>])},
     {{length, #{bytes => 8, endian => little, header => strip}}, [{<<3:64/little, "abc">>, <<"abc">>}]},
     {{length, #{bytes => 1, header => strip, adjust => -1}}, [{<<4, "abc">>, <<"abc">>}, {<<1>>, <<>>}]},
     {{delimiter, <<"\r\n">>}, kept([<<"hello\r\n">>, <<"\r\n">>, <<"a\rb\nc\r\r\n">>])},
     {{delimiter, <<0>>}, kept([<<"hello", 0>>, <<0>>])},
     {{delimiter, <<"abab">>}, kept([<<"aabaabab">>, <<"abab">>])},
     {{fixed, 5}, kept([<<"hello">>, <<"12345">>])},
     {resp, kept([<<"+OK\r\n">>, <<"$5\r\nhel\r\n\r\n">>, <<"$-1\r\n">>, <<"*2\r\n:1\r\n*1\r\n$0\r\n\r\n">>,
                  <<"%1\r\n+a\r\n_\r\n">>, <<"|1\r\n+ttl\r\n:3\r\n#t\r\n">>, <<"$?\r\n;3\r\nabc\r\n;0\r\n">>])}].

kept(Messages) -> [{Message, Message} || Message <- Messages].

option([{length, _} = Framing]) -> Framing;
option(Framing) -> Framing.

%% At each place, with the next message right behind it: the one who waits for the rest has it then.
split_anywhere(Config) ->
    [begin
         {_, Server, Conn} = conn(Config, silent, #{packet => option(Framing)}),
         [split(Server, Conn, Bytes, Message, At) || {Bytes, Message} <- Cases, At <- lists:seq(1, byte_size(Bytes) - 1)],
         ok = sockpool:discard(Conn)
     end || {Framing, Cases} <- framings()].

split(Server, Conn, Bytes, Message, At) ->
    <<First:At/binary, Second/binary>> = Bytes,
    ok = sockpool_test_server:push(Server, First),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 0, 1)),
    ok = sockpool_test_server:push(Server, [Second, Bytes]),
    ?assertEqual({ok, Message}, sockpool:recv(Conn, packet)),
    ?assertEqual({ok, Message}, sockpool:recv(Conn, 0)).

all_in_one_piece(Config) ->
    [begin
         {Pool, Server, Conn} = conn(Config, silent, #{packet => option(Framing), size => 1, max_overflow => 0}),
         Many = lists:append(lists:duplicate(300, Cases)),
         ok = sockpool_test_server:push(Server, [Bytes || {Bytes, _} <- Many]),
         [?assertEqual({ok, Message}, sockpool:recv(Conn, packet)) || {_, Message} <- Many],
         ok = sockpool:checkin(Conn),
         ?assertMatch(#{closed := 0}, settled(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Framing, Cases} <- framings()].

headers_are_added(Config) ->
    [begin
         {_, _, Conn} = conn(Config, echo, #{packet => option(Framing)}),
         [begin
              ok = sockpool:send(Conn, Message),
              ?assertEqual({ok, Bytes}, sockpool:recv(Conn, byte_size(Bytes)))
          end || {Bytes, Message} <- Cases]
     end || {{length, #{header := strip}} = Framing, Cases} <- framings()].

lengths_that_do_not_fit(Config) ->
    {Pool, _, Conn} = conn(Config, echo, #{packet => {length, #{bytes => 1, header => strip, adjust => -1}}, size => 1,
                                           max_overflow => 0}),
    ok = sockpool:send(Conn, binary:copy(<<"x">>, 254)),
    ?assertMatch({ok, <<_:254/binary>>}, sockpool:recv(Conn, packet)),
    ?assertEqual({error, emsgsize}, sockpool:send(Conn, binary:copy(<<"x">>, 255))),
    ok = sockpool:setopts(Conn, [{packet, {length, #{bytes => 1, header => strip, adjust => 3}}}]),
    ?assertEqual({error, emsgsize}, sockpool:send(Conn, "ab")),
    ok = sockpool:send(Conn, "abc"),
    ?assertEqual({ok, <<"abc">>}, sockpool:recv(Conn, packet)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% Whatever its length says: what is above the limit is not waited for.
too_long(Config) ->
    failing(Config, emsgsize,
            [{{length, #{}}, <<0, 0, 0, 11>>}, {{length, #{bytes => 8}}, <<-1:64>>}, {{length, #{adjust => 6}}, <<5:32>>},
             {{delimiter, <<"\r\n">>}, <<"0123456789">>}, {{delimiter, <<"\r\n">>}, <<"012345678\r\n">>}, {{fixed, 11}, <<"x">>},
             {resp, <<"$11\r\n">>}, {resp, <<"+0123456789">>}, {resp, <<"*1000\r\n">>}, {resp, <<"*3\r\n:1\r\n:22">>}]).

%% No bytes that come could make it one.
no_message(Config) ->
    failing(Config, bad_frame,
            [{{length, #{adjust => -4}}, <<3:32>>}, {resp, <<"hello\r\n">>}, {resp, <<"+\n">>}, {resp, <<"$x\r\n">>},
             {resp, <<"$1\r\nabc">>}, {resp, <<";0\r\n">>}, {resp, <<".\r\n">>}]).

failing(Config, Reason, Cases) ->
    [begin
         {Pool, Server, Conn} = conn(Config, silent, #{packet => Framing, recv_limit => 10}),
         ok = sockpool_test_server:push(Server, Bytes),
         ?assertEqual({Framing, Bytes, {error, Reason}}, {Framing, Bytes, sockpool:recv(Conn, packet)}),
         ?assertNotEqual(nomatch, string:find(sockpool:format_error(Reason), "packet")),
         ok = sockpool:checkin(Conn),
         ?assertMatch(#{closed := 1}, settled(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Framing, Bytes} <- Cases].

%% Until the check-in, which puts the pool's back.
as_options_of_a_connection(Config) ->
    {Pool, Server, Conn} = conn(Config, silent, #{packet => line, size => 1, max_overflow => 0}),
    [begin
         ok = sockpool:setopts(Conn, [{packet, option(Framing)}]),
         ok = sockpool_test_server:push(Server, Bytes),
         ?assertEqual({ok, Message}, sockpool:recv(Conn, packet))
     end || {Framing, [{Bytes, Message} | _]} <- framings()],
    ok = sockpool:checkin(Conn),
    {ok, Again} = sockpool:checkout(Pool),
    ok = sockpool_test_server:push(Server, "a line\n"),
    ?assertEqual({ok, <<"a line\n">>}, sockpool:recv(Again, packet)),
    ?assertMatch({ok, #{packet := line}}, sockpool:info(Again)),
    ok = sockpool:checkin(Again),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%% As one that a pool takes; those that are gen_tcp's by their short names.
info_says_which(Config) ->
    {_, _, Conn} = conn(Config, silent, #{}),
    Whole = #{offset => 0, bytes => 4, endian => big, adjust => 0, header => keep},
    [begin
         ok = sockpool:setopts(Conn, [{packet, Set}]),
         ?assertMatch({ok, #{packet := Got}}, sockpool:info(Conn)),
         ok = sockpool:setopts(Conn, [{packet, Got}]),
         ?assertMatch({ok, #{packet := Got}}, sockpool:info(Conn))
     end || {Set, Got} <- [{{length, #{}}, {length, Whole}},
                           {{length, #{offset => 255, bytes => 8, endian => little, adjust => -2147483647}},
                            {length, Whole#{offset := 255, bytes := 8, endian := little, adjust := -2147483647}}},
                           {{length, [{header, strip}, {bytes, 2}]}, 2}, {{length, #{header => strip, bytes => 3}},
                                                                         {length, Whole#{header := strip, bytes := 3}}},
                           {0, raw}, {raw, raw}, {1, 1}, {2, 2}, {4, 4}, {line, line}, {{delimiter, <<"\n">>}, line},
                           {{delimiter, <<"\r\n">>}, {delimiter, <<"\r\n">>}}, {{fixed, 2147483647}, {fixed, 2147483647}},
                           {resp, resp}]].

refused(Config) ->
    {Pool, _, Conn} = conn(Config, silent, #{size => 1, max_overflow => 0}),
    [begin
         ?assertEqual({error, {bad_option, packet, Bad}}, sockpool:setopts(Conn, [{packet, Bad}])),
         ?assertMatch({error, {{bad_option, packet, Bad}, _}},
                      {error, {element(2, sockpool:start_pool(named(Config, bad), #{host => "localhost", port => 1, packet => Bad})), x}}),
         Text = lists:flatten(sockpool:format_error({bad_option, packet, Bad})),
         [?assertNotEqual(nomatch, string:find(Text, Word)) || Word <- ["resp", "delimiter", "fixed", "length"]]
     end || Bad <- [3, 8, http, {length, 4}, {length, #{size => 1}}, {length, #{bytes => 0}}, {length, #{bytes => 9}},
                    {length, #{offset => -1}}, {length, #{offset => 256}}, {length, #{endian => middle}},
                    {length, #{adjust => 2147483648}}, {length, #{adjust => 1.0}}, {length, #{header => drop}},
                    {length, #{offset => 1, header => strip}}, {length, [{bytes, 1} | rest]}, {delimiter, <<>>},
                    {delimiter, "\r\n"}, {delimiter, binary:copy(<<"x">>, 33)}, {delimiter, <<1:1>>}, {fixed, 0},
                    {fixed, 2147483648}, {fixed, "5"}, {resp, 3}, {line, <<"\n">>}, <<"line">>]],
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%% As memcached does it: a line that tells how many bytes follow.
bytes_behind_a_message(Config) ->
    {Pool, Server, Conn} = conn(Config, silent, #{packet => {delimiter, <<"\r\n">>}, size => 1, max_overflow => 0}),
    ok = sockpool_test_server:push(Server, "VALUE key 0 5\r\na\r\nbc\r\nEND\r\n"),
    ?assertEqual({ok, <<"VALUE key 0 5\r\n">>}, sockpool:recv(Conn, packet)),
    ?assertEqual({ok, <<"a\r\nbc">>}, sockpool:recv(Conn, 5)),
    ?assertEqual({ok, <<"\r\n">>}, sockpool:recv(Conn, 2)),
    ?assertEqual({ok, <<"END\r\n">>}, sockpool:recv(Conn, packet)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% Bytes of one that was looked at already, and is not whole: where it ends is found all the same.
begin_of_a_message(Config) ->
    [begin
         {_, Server, Conn} = conn(Config, silent, #{packet => Framing}),
         ok = sockpool_test_server:push(Server, First),
         ?assertEqual({error, timeout}, sockpool:recv(Conn, packet, 10)),
         ?assertEqual({ok, binary:part(First, 0, Taken)}, sockpool:recv(Conn, Taken)),
         ok = sockpool_test_server:push(Server, Second),
         ?assertEqual({ok, Message}, sockpool:recv(Conn, packet))
     end || {Framing, First, Taken, Second, Message} <-
                [{line, <<"0123456789">>, 9, <<"\n">>, <<"9\n">>},
                 {{delimiter, <<"abab">>}, <<"012345aba">>, 8, <<"bab">>, <<"abab">>},
                 {resp, <<"*2\r\n:1\r\n:2">>, 8, <<"\r\n">>, <<":2\r\n">>},
                 {{length, #{}}, <<0, 0, 0, 9, "ab", 0>>, 6, <<0, 0, 1, "x">>, <<0, 0, 0, 1, "x">>}]].

requests(Config) ->
    Id = ids(20),
    [begin
         {Pool, _} = pool(Config, echo, #{packet => Framing, size => 3, max_overflow => 0}),
         run_all([fun() ->
                          Message = Whole(Id()),
                          ?assertEqual({ok, Message}, sockpool:request(Pool, Message, packet, 20000)),
                          assert_no_messages()
                  end || _ <- lists:seq(1, 200)]),
         ?assertMatch(#{closed := 0, created := 3}, settled(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Framing, Whole} <- [{{length, #{bytes => 3, endian => little, header => strip}}, fun(I) -> I end},
                                 {{length, #{bytes => 1}}, fun(I) -> <<(byte_size(I)), I/binary>> end},
                                 {{delimiter, <<"\r\n">>}, fun(I) -> <<I/binary, "\r\n">> end},
                                 {{fixed, 20}, fun(I) -> I end},
                                 {resp, fun(I) -> iolist_to_binary(["*1\r\n$20\r\n", I, "\r\n"]) end}]].

until(Config) ->
    {Pool, Server, Conn} = conn(Config, silent, #{packet => line, size => 1, max_overflow => 0}),
    IsEnd = fun(Line) -> Line =:= <<"END\n">> end,
    ok = sockpool_test_server:push(Server, "a\nb\nEND\nEND\nnext\n"),
    ?assertEqual({ok, [<<"a\n">>, <<"b\n">>, <<"END\n">>]}, sockpool:recv_until(Conn, IsEnd, 5000)),
    ?assertEqual({ok, [<<"END\n">>]}, sockpool:recv_until(Conn, IsEnd, infinity)),
    ?assertError(on_purpose, sockpool:recv_until(Conn, fun(_) -> error(on_purpose) end, 5000)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% One time-out for all, however many come within it.
until_in_time(Config) ->
    Drip = fun Drip(Socket) -> receive after 10 -> ok = gen_tcp:send(Socket, "drop\n"), Drip(Socket) end end,
    {Pool, _, Conn} = conn(Config, {script, Drip}, #{packet => line, size => 1, max_overflow => 0}),
    ?assertEqual({error, timeout}, sockpool:recv_until(Conn, fun(_) -> false end, 100)),
    ok = sockpool:checkin(Conn),
    wait_until(fun() -> maps:get(closed, sockpool_test_util:stats(Pool)) =:= 1 end),
    ok = sockpool:stop_pool(Pool).

until_with_wrong_arguments(Config) ->
    {_, _, Conn} = conn(Config, silent, #{packet => line}),
    [?assertEqual({error, {bad_argument, is_last, Bad}}, sockpool:recv_until(Conn, Bad, 10)) || Bad <- [end_of, fun() -> ok end]],
    ?assertEqual({error, {bad_argument, timeout, -1}}, sockpool:recv_until(Conn, fun(_) -> true end, -1)),
    ?assertEqual({error, {bad_argument, conn, none}}, sockpool:recv_until(none, fun(_) -> true end, 10)).

%% Longer than any buffer begins with.
large(Config) ->
    Size = 3000000,
    Data = rand:bytes(Size),
    [begin
         {Pool, _} = pool(Config, echo, #{packet => Framing, size => 1, max_overflow => 0}),
         Message = iolist_to_binary(Whole),
         %% Twice: the next one is looked for from its begin on.
         [?assertEqual({ok, Message}, sockpool:request(Pool, Message, packet, 30000)) || _ <- [1, 2]],
         ?assertMatch(#{closed := 0}, settled(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Framing, Whole} <- [{{length, #{header => strip}}, Data}, {{fixed, Size}, Data}, {{delimiter, <<"\r\n">>}, [binary:copy(<<"x">>, Size), "\r\n"]},
                                 {resp, ["*3\r\n+a\r\n$", integer_to_list(Size), "\r\n", Data, "\r\n:1\r\n"]},
                                 {resp, ["*100000\r\n", lists:duplicate(100000, "$3\r\nabc\r\n")]}]].

%%% Messages whose end a function knows.

%% A digit, and so many bytes.
counted(<<Digit, _/binary>> = Bytes) ->
    Length = 1 + Digit - $0,
    if byte_size(Bytes) >= Length -> {done, Length}; true -> {more, Length} end;
counted(<<>>) ->
    {more, unknown}.

function(Config) ->
    {Pool, Server, Conn} = conn(Config, silent, #{packet => fun counted/1, size => 1, max_overflow => 0}),
    [split(Server, Conn, <<"5hello">>, <<"5hello">>, At) || At <- lists:seq(1, 5)],
    ok = sockpool_test_server:push(Server, ["0", "9123456789", "1x"]),
    [?assertEqual({ok, Message}, sockpool:recv(Conn, packet)) || Message <- [<<"0">>, <<"9123456789">>, <<"1x">>]],
    ok = sockpool_test_server:push(Server, "3abc4defg2"),
    ?assertEqual({ok, <<"3abc">>}, sockpool:recv(Conn, packet)),
    ?assertEqual({ok, <<"4def">>}, sockpool:recv(Conn, 4)),
    ?assertEqual({ok, <<"g">>}, sockpool:recv(Conn, 1)),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, packet, 10)),
    ok = sockpool_test_server:push(Server, "hi"),
    ?assertEqual({ok, <<"2hi">>}, sockpool:recv(Conn, packet)),
    ?assertMatch({ok, #{packet := 'fun'}}, sockpool:info(Conn)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 1}, settled(Pool)).

function_with_extra_arguments(Config) ->
    {_, Server, Conn} = conn(Config, silent, #{packet => {?MODULE, line, [<<";">>]}}),
    ok = sockpool_test_server:push(Server, "a b;c;"),
    ?assertEqual({ok, <<"a b;">>}, sockpool:recv(Conn, packet)),
    ?assertEqual({ok, <<"c;">>}, sockpool:recv(Conn, packet)).

function_of_a_connection(Config) ->
    {Pool, Server, Conn} = conn(Config, silent, #{packet => fun counted/1, size => 1, max_overflow => 0}),
    ok = sockpool:setopts(Conn, [{packet, {?MODULE, line, [<<";">>]}}]),
    ok = sockpool_test_server:push(Server, "2ab;2cd"),
    ?assertEqual({ok, <<"2ab;">>}, sockpool:recv(Conn, packet)),
    ok = sockpool:setopts(Conn, [{packet, {fixed, 2}}]),
    ?assertEqual({ok, <<"2c">>}, sockpool:recv(Conn, packet)),
    ?assertEqual({ok, <<"d">>}, sockpool:recv(Conn, 1)),
    ok = sockpool:setopts(Conn, [{packet, {?MODULE, line, [<<";">>]}}]),
    ok = sockpool:checkin(Conn),
    {ok, Again} = sockpool:checkout(Pool),
    ok = sockpool_test_server:push(Server, "2ab"),
    ?assertEqual({ok, <<"2ab">>}, sockpool:recv(Again, packet)),
    ?assertEqual({error, {bad_option, packet, fun line/2}}, sockpool:setopts(Again, [{packet, fun line/2}])),
    ok = sockpool:checkin(Again),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

function_in_a_request(Config) ->
    Id = ids(20),
    {Pool, _} = pool(Config, echo, #{packet => {?MODULE, line, [<<";">>]}, size => 3, max_overflow => 0}),
    run_all([fun() ->
                     Message = <<(Id())/binary, ";">>,
                     ?assertEqual({ok, Message}, sockpool:request(Pool, Message, packet, 20000)),
                     assert_no_messages()
             end || _ <- lists:seq(1, 200)]),
    Large = <<(binary:copy(<<"x">>, 3000000))/binary, ";">>,
    ?assertEqual({ok, Large}, sockpool:request(Pool, Large, packet, 30000)),
    ?assertMatch(#{closed := 0, created := 3}, settled(Pool)),
    %% What follows is nobody's.
    ?assertEqual({ok, <<"a;">>}, sockpool:request(Pool, "a;b", packet, 5000)),
    ?assertMatch(#{closed := 1}, settled(Pool)).

line(Bytes, End) ->
    case binary:match(Bytes, End) of
        {At, Size} -> {done, At + Size};
        nomatch -> {more, unknown}
    end.

%% Each time all of it, and no sooner than what it has asked for is there.
function_is_shown_what_there_is(Config) ->
    Test = self(),
    Cut = fun(Bytes) ->
                  Test ! {shown, Bytes},
                  case byte_size(Bytes) of
                      8 -> {done, 8};
                      Size when Size < 4 -> {more, 4};
                      _ -> {more, 8}
                  end
          end,
    {_, Server, Conn} = conn(Config, silent, #{packet => Cut}),
    [begin
         ok = sockpool_test_server:push(Server, Part),
         ?assertEqual(Answer, sockpool:recv(Conn, packet, 10))
     end || {Part, Answer} <- [{"ab", {error, timeout}}, {"c", {error, timeout}}, {"de", {error, timeout}}, {"fgh", {ok, <<"abcdefgh">>}}]],
    %% At the begin of each receive, and when what was asked for is there.
    ?assertEqual([<<"ab">>, <<"ab">>, <<"abc">>, <<"abcde">>, <<"abcde">>, <<"abcdefgh">>], shown()).

shown() -> receive {shown, Bytes} -> [Bytes | shown()] after 0 -> [] end.

function_that_fails(Config) ->
    [begin
         {Pool, Server, Conn} = conn(Config, silent, #{packet => Cut}),
         ok = sockpool_test_server:push(Server, "abc"),
         {error, {framing, Reason} = Why} = sockpool:recv(Conn, packet),
         ?assert(Matches(Reason), Reason),
         ?assertNotEqual(nomatch, string:find(sockpool:format_error(Why), "packet")),
         ok = sockpool:checkin(Conn),
         ?assertMatch(#{closed := 1}, settled(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Cut, Matches} <-
                [{fun(_) -> {error, no_such_kind} end, fun(R) -> R =:= no_such_kind end},
                 {fun(_) -> {done, 4} end, fun(R) -> R =:= {bad_return, {done, 4}} end},
                 {fun(_) -> {done, 0} end, fun(R) -> R =:= {bad_return, {done, 0}} end},
                 {fun(_) -> {more, 3} end, fun(R) -> R =:= {bad_return, {more, 3}} end},
                 {fun(_) -> 3 end, fun(R) -> R =:= {bad_return, 3} end},
                 {fun(_) -> error(oops) end, fun(R) -> element(1, R) =:= error andalso element(2, R) =:= oops end},
                 {fun(_) -> exit(oops) end, fun(R) -> element(1, R) =:= exit andalso element(2, R) =:= oops end}]],
    {Pool, _} = pool(Config, echo, #{packet => fun(_) -> {error, no} end, size => 1}),
    ?assertEqual({error, {framing, no}}, sockpool:request(Pool, "x", packet, 5000)),
    ?assertMatch(#{closed := 1}, settled(Pool)).

function_asks_for_too_much(Config) ->
    {_, Server, Conn} = conn(Config, silent, #{packet => fun(_) -> {more, 11} end, recv_limit => 10}),
    ok = sockpool_test_server:push(Server, "a"),
    ?assertEqual({error, emsgsize}, sockpool:recv(Conn, packet)),
    {_, Server2, Conn2} = conn(Config, silent, #{packet => fun(_) -> {more, unknown} end, recv_limit => 10}),
    ok = sockpool_test_server:push(Server2, "0123456789"),
    ?assertEqual({error, emsgsize}, sockpool:recv(Conn2, packet)).

%% However much comes after it, and whoever has the connection.
what_was_shown_stays(Config) ->
    Test = self(),
    Cut = fun(Bytes) -> Test ! {shown, Bytes}, line(Bytes, <<";">>) end,
    {Pool, Server, Conn} = conn(Config, silent, #{packet => Cut, size => 1, max_overflow => 0}),
    Parts = [<<(integer_to_binary(N))/binary, (binary:copy(<<(N rem 26 + $a)>>, N * 50))/binary>> || N <- lists:seq(1, 100)],
    [begin
         ok = sockpool_test_server:push(Server, Part),
         ?assertEqual({error, timeout}, sockpool:recv(Conn, packet, 0))
     end || Part <- Parts],
    ok = sockpool_test_server:push(Server, ";next;"),
    Whole = iolist_to_binary([Parts, ";"]),
    ?assertEqual({ok, Whole}, sockpool:recv(Conn, packet)),
    ?assertEqual({ok, <<"next;">>}, sockpool:recv(Conn, packet)),
    %% After a time-out it is not kept.
    ok = sockpool:checkin(Conn),
    {ok, Again} = sockpool:checkout(Pool),
    wait_until(fun() -> sockpool_test_server:accepted(Server) =:= 2 end),
    ok = sockpool_test_server:push(Server, [binary:copy(<<"!">>, 500000), ";"]),
    {ok, _} = sockpool:recv(Again, packet),
    Shown = shown(),
    ?assert(length(Shown) > 50),
    [?assert(lists:member(Bytes, [binary:part(Whole, 0, byte_size(Bytes))]))
     || Bytes <- Shown, byte_size(Bytes) =< byte_size(Whole), binary:first(Bytes) =:= $1].

%% A function of a module does not run in a node without a VM.
functions_are_refused(Config) ->
    {_, _, Conn} = conn(Config, silent, #{}),
    #{node := Node} = ?config(daemon, Config),
    [begin
         ?assertMatch({error, {bad_option, packet, _}}, sockpool:setopts(Conn, [{packet, Cut}])),
         ?assertMatch({error, {bad_option, packet, _}},
                      sockpool:start_pool({cut, Node}, #{host => "localhost", port => 1, packet => Cut}))
     end || Cut <- [fun counted/1, fun ?MODULE:counted/1, {?MODULE, line, [<<";">>]}]].

conn(Config, Behaviour, Opts) ->
    {Pool, Server} = pool(Config, Behaviour, Opts),
    {ok, Conn} = sockpool:checkout(Pool, 5000),
    {Pool, Server, Conn}.

pool(Config, Behaviour, Opts) ->
    Server = case ?config(transport, Config) of
                 tcp -> sockpool_test_server:start(Behaviour);
                 unix -> sockpool_test_server:start(Behaviour, #{path => sockpool_test_util:unix_path()})
             end,
    Pool = named(Config, list_to_atom("framing_" ++ integer_to_list(erlang:unique_integer([positive])))),
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), Opts)),
    #{total := Total} = settled(Pool),
    wait_until(fun() -> sockpool_test_server:accepted(Server) =:= Total end),
    {Pool, Server}.

named(Config, Name) ->
    case ?config(daemon, Config) of
        undefined -> Name;
        #{node := Node} -> {Name, Node}
    end.
