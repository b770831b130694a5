%%% Bytes that are not the caller's: what a lease or a request leaves behind is never the next one's,
%%% whatever `validate' says of idle connections. On every transport, and through the C node.
-module(sockpool_leftover_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([of_a_request/1, of_a_lease/1, said_after_the_last_receive/1,
         to_one_who_waits/1, of_a_request_that_waited/1, of_a_dead_owner/1, of_a_framed_stream/1,
         nothing/1, before_the_first_use/1, greeting/1, last_words/1, last_words_to_a_lease/1,
         last_words_to_init/1]).
-export([of_a_lease_that_ends_by_a_send/1, clean/1, without_replies/1, after_a_late_answer/1, init_that_ends_by_a_send/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1]).

all() -> [{group, Name} || {Name, _, _} <- groups()].

groups() ->
    OfFuns = [last_words_to_init, init_that_ends_by_a_send],
    [{tls, [], cases() ++ OfFuns}, {c, [], cases() ++ unasked()}
     | [{Name, [], cases() ++ unasked() ++ OfFuns} || Name <- [tcp, unix]]].

cases() ->
    [of_a_request, of_a_lease, to_one_who_waits, of_a_request_that_waited, of_a_dead_owner,
     of_a_framed_stream, nothing, last_words, last_words_to_a_lease,
     of_a_lease_that_ends_by_a_send, clean, without_replies, after_a_late_answer].

%% The server says something that its client finds, and not only soon.
unasked() ->
    [said_after_the_last_receive, before_the_first_use, greeting].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    sockpool_tls_kit:start(Config).

end_per_suite(Config) ->
    sockpool_tls_kit:stop(Config).

init_per_group(c, Config) ->
    sockpool_c_daemon:if_built(fun() -> [{daemon, sockpool_c_daemon:start()}, {transport, tcp} | Config] end);
init_per_group(Transport, Config) ->
    [{transport, Transport} | Config].

end_per_group(c, Config) ->
    0 = sockpool_c_daemon:stop(?config(daemon, Config));
end_per_group(_Transport, _Config) ->
    ok.

init_per_testcase(_Case, Config) -> Config.

end_per_testcase(_Case, Config) ->
    lists:foreach(fun sockpool:stop_pool/1, pools(Config)).

%%% What is left behind.

%% The server says all of it in one piece: when the first byte is there, so are the others.
of_a_request(Config) ->
    each_way(Config, fun(Pool) ->
                             ?assertEqual({ok, <<"a">>}, sockpool:request(Pool, "abcde", 1, 5000)),
                             own(Pool),
                             closed(Pool, 1)
                     end).

of_a_lease(Config) ->
    each_way(Config, fun(Pool) ->
                             Conn = says(Pool, "abcde"),
                             ?assertEqual({ok, <<"ab">>}, sockpool:recv(Conn, 2)),
                             ok = sockpool:checkin(Conn),
                             own(Pool),
                             closed(Pool, 1)
                     end).

%% The owner has seen that nothing was left.
said_after_the_last_receive(Config) ->
    each_way(Config, fun(Pool, Server) ->
                             Conn = says(Pool, "a"),
                             ?assertEqual({ok, <<"a">>}, sockpool:recv(Conn, 0)),
                             ok = sockpool_test_server:push(Server, "late"),
                             ok = sockpool:checkin(Conn),
                             own(Pool),
                             closed(Pool, 1)
                     end).

to_one_who_waits(Config) ->
    each_way(Config, fun(Pool) ->
                             Conn = says(Pool, "abcde"),
                             ?assertEqual({ok, <<"a">>}, sockpool:recv(Conn, 1)),
                             Waiting = waiting(Pool, fun() -> own(Pool) end, 1),
                             ok = sockpool:checkin(Conn),
                             await(Waiting),
                             closed(Pool, 1)
                     end).

of_a_request_that_waited(Config) ->
    each_way(Config, fun(Pool) ->
                             {ok, Conn} = sockpool:checkout(Pool),
                             First = waiting(Pool, fun() -> sockpool:request(Pool, "abcde", 1, 5000) end, 1),
                             Second = waiting(Pool, fun() -> own(Pool) end, 2),
                             ok = sockpool:checkin(Conn),
                             ?assertEqual({ok, <<"a">>}, await(First)),
                             await(Second),
                             closed(Pool, 1)
                     end).

of_a_dead_owner(Config) ->
    each_way(Config, fun(Pool) ->
                             Owner = start(fun() ->
                                                   Conn = says(Pool, "abcde"),
                                                   sockpool:recv(Conn, 1)
                                           end),
                             ?assertEqual({ok, <<"a">>}, await(Owner)),
                             own(Pool),
                             closed(Pool, 1)
                     end).

%% The begin of a next message, or all of it.
of_a_framed_stream(Config) ->
    [each_way(Config, #{packet => 2},
              fun(Pool) ->
                      {ok, Conn} = sockpool:checkout(Pool),
                      ok = sockpool:setopts(Conn, [{packet, raw}]),
                      ok = sockpool:send(Conn, [<<1:16, "a">>, Next]),
                      ok = sockpool:setopts(Conn, [{packet, 2}]),
                      ?assertEqual({ok, <<"a">>}, sockpool:recv(Conn, 0)),
                      ok = sockpool:checkin(Conn),
                      ?assertEqual({ok, <<"XY">>}, sockpool:request(Pool, "XY", packet, 5000)),
                      closed(Pool, 1)
              end) || Next <- [<<5:16, "he">>, <<0>>, <<2:16, "he">>]].

%% Then the connection stays.
nothing(Config) ->
    each_way(Config, fun(Pool) ->
                             [begin
                                  Data = binary:copy(<<"x">>, Size),
                                  ?assertEqual({ok, Data}, sockpool:request(Pool, Data, Size, 5000)),
                                  Conn = says(Pool, Data),
                                  ?assertEqual({ok, Data}, sockpool:recv(Conn, Size)),
                                  ok = sockpool:checkin(Conn)
                              end || Size <- [1, 100, 16383, 16384, 16385, 100000]],
                             ?assertMatch(#{closed := 0, created := 1}, settled(Pool))
                     end).

%%% A lease that ends by a send.

%% The server says nothing: there is nothing to be seen.
of_a_lease_that_ends_by_a_send(Config) ->
    silent(Config, #{}, fun(Pool) ->
                                ok = sockpool:checkin(says(Pool, "a")),
                                closed(Pool, 1),
                                ok = sockpool:transaction(Pool, fun(Conn) -> sockpool:send(Conn, "b") end),
                                closed(Pool, 2),
                                {ok, ok} = sockpool:execute(Pool, fun(Conn) -> sockpool:send(Conn, "c") end),
                                closed(Pool, 3),
                                {ok, Conn} = sockpool:checkout(Pool),
                                ok = sockpool:send(Conn, ""),
                                ok = sockpool:checkin(Conn),
                                closed(Pool, 3)
                        end).

clean(Config) ->
    silent(Config, #{}, fun(Pool) ->
                                ok = sockpool:checkin(says(Pool, "a"), clean),
                                Conn = says(Pool, "b"),
                                ?assertEqual({error, {bad_argument, how, dirty}}, sockpool:checkin(Conn, dirty)),
                                ok = sockpool:checkin(Conn, clean),
                                ?assertEqual({error, closed}, sockpool:checkin(Conn, clean)),
                                closed(Pool, 0),
                                Late = says(Pool, "c"),
                                ?assertEqual({error, timeout}, sockpool:recv(Late, 1, 0)),
                                ok = sockpool:checkin(Late, clean),
                                closed(Pool, 1)
                        end).

without_replies(Config) ->
    silent(Config, #{replies => false}, fun(Pool) ->
                                                ok = sockpool:checkin(says(Pool, "a")),
                                                ok = sockpool:transaction(Pool, fun(Conn) -> sockpool:send(Conn, "b") end),
                                                closed(Pool, 0)
                                        end).

%% What it is for: the next one does not get it.
after_a_late_answer(Config) ->
    each_way(Config, fun(Pool) ->
                             ok = sockpool:checkin(says(Pool, "late")),
                             own(Pool),
                             closed(Pool, 1)
                     end).

init_that_ends_by_a_send(Config) ->
    silent(Config, #{init => fun(Conn) -> sockpool:send(Conn, "hello") end},
           fun(Pool) ->
                   {ok, Conn} = sockpool:checkout(Pool),
                   ok = sockpool:checkin(Conn),
                   closed(Pool, 0)
           end).

silent(Config, Opts, Fun) ->
    {Server, Target} = server(Config, silent),
    with_pool_to(Config, Server, Target, Opts, fun(Pool, _) -> Fun(Pool) end).

%% Nobody has left it there: `never' is for those who know what an idle connection may have.
before_the_first_use(Config) ->
    with_pool(Config, #{validate => never},
              fun(Pool, Server) ->
                      ok = sockpool_test_server:push(Server, "hello"),
                      {ok, Conn} = sockpool:checkout(Pool),
                      ok = sockpool:checkin(Conn),
                      ?assertEqual({ok, <<"hello">>}, sockpool:request(Pool, "", 5, 5000)),
                      closed(Pool, 0)
              end).

%% Nobody has used the connection, and nobody gets what the server says on it by itself. The pause after
%% that is long: no other connection is there to be had.
greeting(Config) ->
    Opts = #{backoff => {3600000, 3600000}},
    [with_pool(Config, Opts#{validate => When},
               fun(Pool, Server) ->
                       ok = sockpool_test_server:push(Server, "220 \"hello\"\e[7m\r\n"),
                       {error, {unavailable, Reason}} = sockpool:request(Pool, "XY", 2, 200),
                       ?assertEqual({unread_bytes, <<"220 .hello..[7m">>}, Reason),
                       ?assertNotEqual(nomatch, string:find(sockpool:format_error(Reason), "hello"))
               end) || When <- [{'after', 60000}, always]],
    ok.

%% The server refuses a large request before it has read it, and closes: the send breaks, and what the server
%% said is there.
last_words(Config) ->
    refusing(Config, fun(Pool, Refuse) ->
                             Job = start(fun() -> sockpool:request(Pool, large(), 3, 20000) end),
                             Refuse(element(1, Job)),
                             ?assertEqual({ok, <<"no\n">>}, await(Job)),
                             closed(Pool, 1)
                     end),
    %% Not a whole answer.
    refusing(Config, fun(Pool, Refuse) ->
                             Job = start(fun() -> sockpool:request(Pool, large(), 4, 20000) end),
                             Refuse(element(1, Job)),
                             {error, Reason} = await(Job),
                             ?assert(lists:member(Reason, [econnreset, closed, {tls, truncated}])),
                             closed(Pool, 1)
                     end).

last_words_to_a_lease(Config) ->
    refusing(Config, fun(Pool, Refuse) ->
                             Job = start(fun() ->
                                                 {ok, Conn} = sockpool:checkout(Pool),
                                                 {error, _} = sockpool:send(Conn, large(), 20000),
                                                 Said = sockpool:recv(Conn, 3),
                                                 ok = sockpool:checkin(Conn),
                                                 Said
                                         end),
                             Refuse(element(1, Job)),
                             ?assertEqual({ok, <<"no\n">>}, await(Job)),
                             closed(Pool, 1)
                     end).

last_words_to_init(Config) ->
    Tester = self(),
    Init = fun(Conn) ->
                   Tester ! {connector, self()},
                   {error, _} = sockpool:send(Conn, large(), 20000),
                   {error, {said, sockpool:recv(Conn, 3)}}
           end,
    {Server, Target} = case ?config(transport, Config) of
                           tls -> server(Config, silent);
                           _ -> server(Config, {script, fun refuse/1})
                       end,
    Pool = name(Config),
    ok = sockpool:start_pool(Pool, Target#{size => 1, init => Init, backoff => {3600000, 3600000}}),
    Connector = receive {connector, Pid} -> Pid end,
    case ?config(transport, Config) of
        tls -> refuse(Server, Connector);
        _ -> ok
    end,
    wait_until(fun() -> stat(Pool, connect_failures) =:= 1 end),
    ?assertEqual({error, {unavailable, {init, {said, {ok, <<"no\n">>}}}}}, sockpool:checkout(Pool, 200)).

large() -> binary:copy(<<"large">>, 4000000).

%% The fun gets what has the server refuse, once this process sends.
refusing(Config, Fun) ->
    case ?config(transport, Config) of
        tls ->
            Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Config, "server"), silent),
            with_pool_to(Config, Server, secured(Config, Server), #{},
                         fun(Pool, _) -> Fun(Pool, fun(Sender) -> refuse(Server, Sender) end) end);
        _ ->
            {Server, Target} = server(Config, {script, fun refuse/1}),
            with_pool_to(Config, Server, Target, #{}, fun(Pool, _) -> Fun(Pool, fun(_) -> ok end) end)
    end.

refuse(Socket) ->
    {ok, _} = gen_tcp:recv(Socket, 1000),
    gen_tcp:send(Socket, "no\n").

refuse(Server, Sender) ->
    wait_until(fun() ->
                       process_info(Sender, current_function)
                           =:= {current_function, {sockpool_wait, await, 2}}
               end),
    sockpool_tls_peers:tell(Server, fun(Socket) ->
                                            _ = ssl:send(Socket, "no\n"),
                                            ssl:close(Socket)
                                    end).

%%% Helpers.

each_way(Config, Fun) -> each_way(Config, #{}, Fun).

each_way(Config, Opts, Fun) ->
    [with_pool(Config, Opts#{validate => When}, Fun) || When <- [never, {'after', 60000}, always]],
    ok.

%% Of one connection to an echo server.
with_pool(Config, Opts, Fun) ->
    {Server, Target} = server(Config, echo),
    with_pool_to(Config, Server, Target, Opts, Fun).

with_pool_to(Config, Server, Target, Opts, Fun) ->
    Pool = name(Config),
    ok = sockpool:start_pool(Pool, maps:merge(Target#{size => 1, max_overflow => 0, backoff => {1, 10}}, Opts)),
    _ = settled(Pool),
    _ = is_map_key(accepted, Server) andalso
        wait_until(fun() -> sockpool_test_server:accepted(Server) =:= 1 end),
    case Fun of
        _ when is_function(Fun, 1) -> Fun(Pool);
        _ -> Fun(Pool, Server)
    end,
    ok = sockpool:stop_pool(Pool).

server(Config, Behaviour) ->
    case ?config(transport, Config) of
        tls ->
            Identity = sockpool_tls_kit:identity(Config, "server"),
            Server = sockpool_tls_peers:ssl_server(Identity, Behaviour),
            {Server, secured(Config, Server)};
        unix ->
            Server = sockpool_test_server:start(Behaviour, #{path => sockpool_test_util:unix_path()}),
            {Server, sockpool_test_server:target(Server)};
        tcp ->
            Server = sockpool_test_server:start(Behaviour),
            {Server, sockpool_test_server:target(Server)}
    end.

secured(Config, Server) ->
    #{host => "localhost", port => sockpool_tls_peers:port(Server), transport => tls,
      connect_timeout => 60000, tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca")}}.

%% A pool's counters go on over its restarts, so each pool has a name of its own.
name(Config) ->
    Name = list_to_atom("leftover_" ++ integer_to_list(erlang:unique_integer([positive]))),
    case ?config(daemon, Config) of
        undefined -> Name;
        #{node := Node} -> {Name, Node}
    end.

pools(Config) ->
    case ?config(daemon, Config) of
        undefined ->
            sockpool_test_util:pools();
        #{node := Node} ->
            {ok, Names} = sockpool:which_pools(Node),
            [{Name, Node} || Name <- Names]
    end.

%% A connection on which the server has been asked to say this.
says(Pool, Data) ->
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, Data),
    Conn.

own(Pool) ->
    ?assertEqual({ok, <<"XY">>}, sockpool:request(Pool, "XY", 2, 5000)).

closed(Pool, N) ->
    ?assertMatch(#{closed := N}, settled(Pool)).

%% Runs the fun, and returns when so many wait.
waiting(Pool, Fun, N) ->
    Job = start(Fun),
    wait_until(fun() -> stat(Pool, waiting) =:= N end),
    Job.
