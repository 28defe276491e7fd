{"streams":[{"index":0,"codec_name":"mpeg2video","codec_long_name":"MPEG-2 video","profile":"Main","codec_type":"video","codec_tag_string":"[2][0][0][0]","codec_tag":"0x0002","width":64,"height":48,"coded_width":0,"coded_height":0,"closed_captions":0,"film_grain":0,"has_b_frames":1,"sample_aspect_ratio":"1:1","display_aspect_ratio":"4:3","pix_fmt":"yuv420p","level":8,"color_range":"tv","chroma_location":"left","field_order":"tt","refs":1,"id":"0x100","r_frame_rate":"25/1","avg_frame_rate":"25/1","time_base":"1/90000","start_pts":129600,"start_time":"1.440000","duration_ts":360000,"duration":"4.000000","extradata_size":22,"disposition":{"default":0,"dub":0,"original":0,"comment":0,"lyrics":0,"karaoke":0,"forced":0,"hearing_impaired":0,"visual_impaired":0,"clean_effects":0,"attached_pic":0,"timed_thumbnails":0,"captions":0,"descriptions":0,"metadata":0,"dependent":0,"still_image":0},"side_data_list":[{"side_data_type":"CPB properties","max_bitrate":0,"min_bitrate":0,"avg_bitrate":0,"buffer_size":49152,"vbv_delay":-1}]},{"index":1,"codec_name":"mp2","codec_long_name":"MP2 (MPEG audio layer 2)","codec_type":"audio","codec_tag_string":"[3][0][0][0]","codec_tag":"0x0003","sample_fmt":"fltp","sample_rate":"44100","channels":1,"channel_layout":"mono","bits_per_sample":0,"id":"0x101","r_frame_rate":"0/0","avg_frame_rate":"0/0","time_base":"1/90000","start_pts":128618,"start_time":"1.429089","duration_ts":359706,"duration":"3.996733","bit_rate":"384000","disposition":{"default":0,"dub":0,"original":0,"comment":0,"lyrics":0,"karaoke":0,"forced":0,"hearing_impaired":0,"visual_impaired":0,"clean_effects":0,"attached_pic":0,"timed_thumbnails":0,"captions":0,"descriptions":0,"metadata":0,"dependent":0,"still_image":0}}],"chapters":[],"format":{"filename":"c.ts","nb_streams":2,"nb_programs":1,"format_name":"mpegts","format_long_name":"MPEG-TS (MPEG-2 Transport Stream)","start_time":"1.429089","duration":"4.010911","size":"289708","bit_rate":"577839","probe_score":50}}
%%
{"frames":[{"media_type":"video","stream_index":0,"key_frame":1,"pts":129600,"pts_time":"1.440000","pkt_dts":129600,"pkt_dts_time":"1.440000","best_effort_timestamp":129600,"best_effort_timestamp_time":"1.440000","pkt_duration":3600,"pkt_duration_time":"0.040000","pkt_pos":"564","pkt_size":"2312","width":64,"height":48,"pix_fmt":"yuv420p","sample_aspect_ratio":"1:1","pict_type":"I","coded_picture_number":0,"display_picture_number":0,"interlaced_frame":1,"top_field_first":1,"repeat_pict":0,"color_range":"tv","chroma_location":"left","tags":{"timecode":"00:00:00:00"},"side_data_list":[{"side_data_type":"AVPanScan"},{"side_data_type":"GOP timecode","timecode":"00:00:00:00"}]},{"media_type":"video","stream_index":0,"key_frame":0,"pts":133200,"pts_time":"1.480000","best_effort_timestamp":133200,"best_effort_timestamp_time":"1.480000","pkt_duration":3600,"pkt_duration_time":"0.040000","pkt_pos":"3008","pkt_size":"628","width":64,"height":48,"pix_fmt":"yuv420p","sample_aspect_ratio":"1:1","pict_type":"P","coded_picture_number":1,"display_picture_number":0,"interlaced_frame":1,"top_field_first":1,"repeat_pict":0,"color_range":"tv","chroma_location":"left","side_data_list":[{"side_data_type":"AVPanScan"}]}]}
%%
129600,126000,3600,2312,564,K_,MPEGTS Stream ID

133200,129600,3600,628,3008,__,MPEGTS Stream ID

136800,133200,3600,381,3760,__,MPEGTS Stream ID

140400,136800,3600,489,7332,__,MPEGTS Stream ID

144000,140400,3600,343,10528,__,MPEGTS Stream ID

147600,144000,3600,329,13724,__,MPEGTS Stream ID

151200,147600,3600,378,17108,__,MPEGTS Stream ID

154800,151200,3600,379,17672,__,MPEGTS Stream ID

158400,154800,3600,330,20868,__,MPEGTS Stream ID

162000,158400,3600,371,24252,__,MPEGTS Stream ID

165600,162000,3600,328,27448,__,MPEGTS Stream ID

169200,165600,3600,378,27824,__,MPEGTS Stream ID

172800,169200,3600,2311,31396,K_,MPEGTS Stream ID

176400,172800,3600,677,36660,__,MPEGTS Stream ID

180000,176400,3600,389,40044,__,MPEGTS Stream ID

183600,180000,3600,428,40984,__,MPEGTS Stream ID

187200,183600,3600,439,44180,__,MPEGTS Stream ID

190800,187200,3600,337,47376,__,MPEGTS Stream ID

194400,190800,3600,476,50760,__,MPEGTS Stream ID

198000,194400,3600,484,51324,__,MPEGTS Stream ID

201600,198000,3600,342,54520,__,MPEGTS Stream ID

205200,201600,3600,327,58092,__,MPEGTS Stream ID

208800,205200,3600,468,61100,__,MPEGTS Stream ID

212400,208800,3600,530,64296,__,MPEGTS Stream ID

216000,212400,3600,2355,65236,K_,MPEGTS Stream ID

219600,216000,3600,870,70312,__,MPEGTS Stream ID

223200,219600,3600,610,74072,__,MPEGTS Stream ID

226800,223200,3600,368,77832,__,MPEGTS Stream ID

230400,226800,3600,336,78396,__,MPEGTS Stream ID

234000,230400,3600,475,81404,__,MPEGTS Stream ID

237600,234000,3600,540,84976,__,MPEGTS Stream ID

241200,237600,3600,333,88360,__,MPEGTS Stream ID

244800,241200,3600,452,88736,__,MPEGTS Stream ID

248400,244800,3600,331,92308,__,MPEGTS Stream ID

252000,248400,3600,382,95316,__,MPEGTS Stream ID

255600,252000,3600,332,98512,__,MPEGTS Stream ID

259200,255600,3600,2404,101896,K_,MPEGTS Stream ID

262800,259200,3600,760,104528,__,MPEGTS Stream ID

266400,262800,3600,389,108100,__,MPEGTS Stream ID

270000,266400,3600,508,111860,__,MPEGTS Stream ID

273600,270000,3600,336,115056,__,MPEGTS Stream ID

277200,273600,3600,364,115432,__,MPEGTS Stream ID

280800,277200,3600,506,119004,__,MPEGTS Stream ID

284400,280800,3600,331,122200,__,MPEGTS Stream ID

288000,284400,3600,326,125208,__,MPEGTS Stream ID

291600,288000,3600,514,125960,__,MPEGTS Stream ID

295200,291600,3600,338,129156,__,MPEGTS Stream ID

298800,295200,3600,328,132164,__,MPEGTS Stream ID

302400,298800,3600,2345,135548,K_,MPEGTS Stream ID

306000,302400,3600,816,137992,__,MPEGTS Stream ID

309600,306000,3600,623,141564,__,MPEGTS Stream ID

313200,309600,3600,363,145324,__,MPEGTS Stream ID

316800,313200,3600,643,148708,__,MPEGTS Stream ID

320400,316800,3600,517,152092,__,MPEGTS Stream ID

324000,320400,3600,336,153032,__,MPEGTS Stream ID

327600,324000,3600,570,156040,__,MPEGTS Stream ID

331200,327600,3600,638,159424,__,MPEGTS Stream ID

334800,331200,3600,457,163184,__,MPEGTS Stream ID

338400,334800,3600,334,163748,__,MPEGTS Stream ID

342000,338400,3600,591,166756,__,MPEGTS Stream ID

345600,342000,3600,2340,170516,K_,MPEGTS Stream ID

349200,345600,3600,636,175592,__,MPEGTS Stream ID

352800,349200,3600,454,176344,__,MPEGTS Stream ID

356400,352800,3600,356,179916,__,MPEGTS Stream ID

360000,356400,3600,487,183112,__,MPEGTS Stream ID

363600,360000,3600,479,186496,__,MPEGTS Stream ID

367200,363600,3600,336,187436,__,MPEGTS Stream ID

370800,367200,3600,519,190444,__,MPEGTS Stream ID

374400,370800,3600,483,193640,__,MPEGTS Stream ID

378000,374400,3600,293,197212,__,MPEGTS Stream ID

381600,378000,3600,401,200220,__,MPEGTS Stream ID

385200,381600,3600,480,200784,__,MPEGTS Stream ID

388800,385200,3600,2360,204356,K_,MPEGTS Stream ID

392400,388800,3600,741,209432,__,MPEGTS Stream ID

396000,392400,3600,385,213004,__,MPEGTS Stream ID

399600,396000,3600,638,213944,__,MPEGTS Stream ID

403200,399600,3600,341,217328,__,MPEGTS Stream ID

406800,403200,3600,428,220336,__,MPEGTS Stream ID

410400,406800,3600,325,224096,__,MPEGTS Stream ID

414000,410400,3600,437,224472,__,MPEGTS Stream ID

417600,414000,3600,560,227668,__,MPEGTS Stream ID

421200,417600,3600,347,231428,__,MPEGTS Stream ID

424800,421200,3600,333,234436,__,MPEGTS Stream ID

428400,424800,3600,478,234812,__,MPEGTS Stream ID

432000,428400,3600,2322,238384,K_,MPEGTS Stream ID

435600,432000,3600,635,243460,__,MPEGTS Stream ID

439200,435600,3600,610,246844,__,MPEGTS Stream ID

442800,439200,3600,413,250604,__,MPEGTS Stream ID

446400,442800,3600,341,251168,__,MPEGTS Stream ID

450000,446400,3600,328,254176,__,MPEGTS Stream ID

453600,450000,3600,421,257560,__,MPEGTS Stream ID

457200,453600,3600,348,260944,__,MPEGTS Stream ID

460800,457200,3600,333,261320,__,MPEGTS Stream ID

464400,460800,3600,333,264704,__,MPEGTS Stream ID

468000,464400,3600,394,267712,__,MPEGTS Stream ID

471600,468000,3600,330,270908,__,MPEGTS Stream ID

475200,471600,3600,2366,271660,K_,MPEGTS Stream ID

478800,475200,3600,660,276924,__,MPEGTS Stream ID

482400,478800,3600,512,280308,__,MPEGTS Stream ID

486000,482400,3600,367,283880,__
