%%% examples/smtp against aiosmtpd of Debian's python3-aiosmtpd, which puts each message into a file.
-module(sockpool_smtp_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([greeting/1, message/1, refused/1, nothing_smuggled/1, own_messages/1, starttls/1, no_starttls/1]).

-import(sockpool_test_util, [settled/1]).
-import(sockpool_examples, [under_load/3]).

-define(HOST, "127.0.0.1").
-define(SIZE, 32).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [greeting, message, refused, nothing_smuggled, own_messages, starttls, no_starttls].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    sockpool_examples:missing([{"aiosmtpd", "python3-aiosmtpd"}], Config).

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(Case, Config) ->
    Port = sockpool_test_port:free(),
    Dir = sockpool_examples:dir(),
    Box = filename:join(Dir, "box"),
    Tls = case Case of
              starttls ->
                  ok = sockpool_tls_peers:certificates(Dir),
                  ["--tlscert", filename:join(Dir, "server.pem"), "--tlskey", filename:join(Dir, "server.key")];
              _ ->
                  []
          end,
    Args = Tls ++ ["-n", "-s", "100000", "-c", "aiosmtpd.handlers.Mailbox", "-l", ?HOST ":" ++ integer_to_list(Port), Box],
    Program = sockpool_test_program:start("aiosmtpd", Args, #{signal => "KILL"}),
    #{} = sockpool_test_program:listening(#{port => Port}),
    [{pool, list_to_atom(lists:concat(["smtp_", Case]))}, {port, Port}, {program, Program}, {dir, Dir}, {box, Box} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok = sockpool_test_program:stop(?config(program, Config)),
    ok = file:del_dir_r(?config(dir, Config)).

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, smtp:options(maps:merge(#{host => ?HOST, port => ?config(port, Config), name => "client"}, Opts))),
    Pool.

%% What has come, without what the server adds.
messages(Config) ->
    Files = filelib:wildcard(filename:join(?config(box, Config), "new/*")),
    [begin
         {ok, Text} = file:read_file(File),
         {match, [From, To]} = re:run(Text, "\nX-MailFrom: (.*)\nX-RcptTo: (.*)\n", [{capture, all_but_first, binary}]),
         [Head, Body] = binary:split(Text, <<"\n\n">>),
         {From, binary:split(To, <<", ">>, [global]), hd(binary:split(Head, <<"\n">>)), Body}
     end || File <- Files].

greeting(Config) ->
    Pool = started(Config, #{size => 3, max_overflow => 0}),
    ?assertMatch(#{created := 3, connect_failures := 0}, settled(Pool)),
    {ok, Help} = sockpool:transaction(Pool, fun(Conn) -> smtp:ask(Conn, "HELP", 250) end),
    ?assertMatch(<<"Supported commands: ", _/binary>>, Help),
    ?assertEqual({ok, <<"localhost\nSIZE 100000\n8BITMIME\nHELP">>}, sockpool:transaction(Pool, fun(Conn) -> smtp:ask(Conn, "EHLO again", 250) end)).

message(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertMatch({ok, <<"OK">>}, smtp:send(Pool, <<"me@here">>, [<<"you@there">>, <<"them@there">>], "Subject: Hello\r\n\r\none\r\n.two\r\n..\r\n")),
    ?assertEqual([{<<"me@here">>, [<<"you@there">>, <<"them@there">>], <<"Subject: Hello">>, <<"one\n.two\n..\n\n">>}], messages(Config)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%% Half a message is no message, and the next one is a whole one.
refused(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertMatch({error, {553, _}}, smtp:send(Pool, <<"me@here">>, [<<"you@there">>, <<"no=address@">>], "Subject: Refused\r\n\r\n")),
    ?assertMatch({error, {552, _}}, smtp:send(Pool, <<"me@here">>, [<<"you@there">>], ["Subject: Long\r\n\r\n", lists:duplicate(2000, "0123456789012345678901234567890123456789012345678\r\n")])),
    ?assertMatch({ok, _}, smtp:send(Pool, <<"me@here">>, [<<"them@there">>], "Subject: Taken\r\n\r\n")),
    ?assertMatch([{_, [<<"them@there">>], <<"Subject: Taken">>, _}], messages(Config)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)),
    [?assertError(_, smtp:send(Pool, Wrong, [<<"you@there">>], ""))
     || Wrong <- [<<"me@here>\r\nRCPT TO:<all@there">>, <<"me here">>, <<"<me@here>">>]].

nothing_smuggled(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    [{ok, _} = smtp:send(Pool, <<"me@here">>, [<<"you@there">>], ["Subject: One\r\n\r\ntext", End, ".", End, "MAIL FROM:<x@y>", End, "RCPT TO:<x@y>", End, "DATA", End,
                                                                  "Subject: Two", End, ".", End])
     || End <- ["\r\n", "\n", "\r"]],
    ?assertMatch([{<<"me@here">>, _, <<"Subject: One">>, _}, {<<"me@here">>, _, <<"Subject: One">>, _}, {<<"me@here">>, _, <<"Subject: One">>, _}], messages(Config)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%% The server takes no mail in clear.
starttls(Config) ->
    Pool = started(Config, #{starttls => #{cacertfile => filename:join(?config(dir, Config), "ca.pem")}, size => 2, max_overflow => 0}),
    [{ok, _} = smtp:send(Pool, <<"me@here">>, [<<"you@there">>], "Subject: Secret\r\n\r\n") || _ <- lists:seq(1, 10)],
    ?assertMatch([{_, _, <<"Subject: Secret">>, _} | _], messages(Config)),
    ?assertMatch({ok, #{transport := tls}}, sockpool:transaction(Pool, fun sockpool:info/1)),
    ?assertMatch(#{created := 2, closed := 0, connect_failures := 0}, settled(Pool)),
    ok = sockpool:stop_pool(Pool),
    _ = started(Config, #{size => 1, max_overflow => 0}),
    ?assertMatch({error, {530, _}}, smtp:send(Pool, <<"me@here">>, [<<"you@there">>], "Subject: Open\r\n\r\n")).

%% Where there is none there is no connection.
no_starttls(Config) ->
    Pool = started(Config, #{starttls => #{verify => none}, backoff => {1, 10}}),
    ?assertMatch({init, {454, _}}, sockpool_test_util:unavailable(Pool)).

%%% A thousand processes.

%% Each message that was said to be taken is there once, and whole; of a process that was killed one more may be.
own_messages(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 120000}),
    Counted = under_load(Pool, ?SIZE, fun(Key, N) ->
                                              Own = integer_to_binary(N),
                                              {ok, _} = smtp:send(Pool, <<Key/binary, "@here">>, [<<Own/binary, "@there">>],
                                                                  ["Subject: ", Key, $:, Own, "\r\n\r\n.", Key, "\r\n"]),
                                              ok
                                      end),
    Messages = messages(Config),
    Numbers = lists:foldl(fun({From, [To], <<"Subject: ", Subject/binary>>, Text}, ByKey) ->
                                  [Key, Own] = binary:split(Subject, <<":">>),
                                  ?assertEqual({<<Key/binary, "@here">>, <<Own/binary, "@there">>, <<".", Key/binary, "\n\n">>}, {From, To, Text}),
                                  maps:update_with(Key, fun(Before) -> [binary_to_integer(Own) | Before] end, [binary_to_integer(Own)], ByKey)
                          end, #{}, Messages),
    [?assertEqual(lists:seq(1, length(Own)), lists:sort(Own)) || Own <- maps:values(Numbers)],
    sockpool_examples:assert_counted(Counted, fun(Key) -> length(maps:get(Key, Numbers, [])) end).
